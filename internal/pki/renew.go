package pki

import (
	"context"
	"log/slog"
	"time"

	"github.com/kokkuri/kokkuri/internal/bus"
)

// renewCheck is how often KeepRenewed looks, and tries again after a failure.
const renewCheck = time.Hour

// KeepRenewed renews the certificate whenever two thirds of its time are over, until ctx ends. After a renewal the
// connection is made anew, since the server ends it when the certificate that opened it expires.
func (c *Client) KeepRenewed(ctx context.Context, conn *bus.Conn, log *slog.Logger) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	for {
		wait := renewCheck
		if due, err := c.renewDue(); err != nil {
			log.ErrorContext(ctx, "certificate can't be renewed", "error", err)
		} else if until := due.Sub(c.now()); until > 0 {
			wait = min(until, renewCheck)
		} else if err := c.renewAndReconnect(ctx, conn); err != nil {
			log.WarnContext(ctx, "certificate not renewed; trying again in an hour", "error", err)
		} else {
			log.InfoContext(ctx, "certificate renewed", "role", string(c.Role), "name", c.Name)
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// renewDue is when two thirds of the certificate's time are over.
func (c *Client) renewDue() (time.Time, error) {
	cert, err := c.certificate()
	if err != nil {
		return time.Time{}, err
	}
	return cert.Leaf.NotBefore.Add(cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore) * 2 / 3), nil
}

func (c *Client) renewAndReconnect(ctx context.Context, conn *bus.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()
	if err := c.Renew(ctx, conn); err != nil {
		return err
	}
	return conn.Reconnect()
}
