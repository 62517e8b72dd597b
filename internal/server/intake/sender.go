package intake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"slices"
	"time"
)

// whose returns the host that a connection proves to be of, by its certificate or its address. Of a relay it is the relay's
// own name: whose its lines are is said by each.
func (c *connection) whose() (host string, relay, ok bool) {
	if c.cert != nil {
		return c.in.certified(c.cert)
	}
	return c.in.addressed(c.sender)
}

// addressed is who sends from an address.
func (in *Intake) addressed(sender netip.Addr) (host string, relay, ok bool) {
	for _, p := range in.o.Relays {
		if p.Contains(sender) {
			return sender.String(), true, true
		}
	}
	host, ok = in.o.HostOf(sender)
	return host, false, ok
}

// certified is whom a certificate was issued for, unless it was revoked or the host is none of ours any more.
func (in *Intake) certified(cert *x509.Certificate) (host string, relay, ok bool) {
	name, err := in.o.Sender(cert)
	if err != nil {
		return "", false, false
	}
	if slices.Contains(in.o.RelayNames, name) {
		return name, true, true
	}
	host, ok = in.o.HostByName(name)
	return host, false, ok && host == name // an alias is no name of a certificate
}

// handshake lets a TLS sender prove who it is; false where it does not, or takes too long.
func (c *connection) handshake(ctx context.Context) bool {
	conn, ok := c.conn.(*tls.Conn)
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, c.in.o.HandshakeTimeout)
	defer cancel()
	refuse := func(why string, err error) bool {
		if c.in.counts.handshakes.Add(1) == 1 {
			c.in.o.Log.WarnContext(ctx, "a syslog connection over TLS is refused, as others will be", "sender", c.sender, "why", why, "error", err)
		}
		return false
	}
	_ = c.raw.SetDeadline(time.Now().Add(c.in.o.HandshakeTimeout)) // also while the kernel's buffer is full
	if err := conn.HandshakeContext(ctx); err != nil {
		return refuse("the handshake failed", err)
	}
	_ = c.raw.SetDeadline(time.Time{})
	certs := conn.ConnectionState().PeerCertificates
	if len(certs) == 0 { // the configuration demands one
		return refuse("it has no certificate", nil)
	}
	c.cert = certs[0]
	if _, _, ok := c.whose(); !ok {
		_, err := c.in.o.Sender(c.cert)
		return refuse("its certificate is of no host", err)
	}
	return true
}

// part is the lines of one host.
type part struct {
	host  string
	lines [][]byte
}

// parts divides a relay's lines, all of which name a host of ours, among their hosts; others' are all of the sender, which
// is a host.
func (in *Intake) parts(sender string, relay bool, lines [][]byte) []part {
	if len(lines) == 0 {
		return nil
	}
	if !relay {
		return []part{{sender, lines}}
	}
	var out []part
	index := make(map[string]int)
	for _, line := range lines {
		host, reason := in.owner(line, "")
		if reason != "" {
			in.counts.putAside(Quarantined{At: in.o.Clock(), Host: sender, Reason: reason}, line) // its host has gone within this moment
			continue
		}
		i, ok := index[host]
		if !ok {
			i = len(out)
			index[host] = i
			out = append(out, part{host: host})
		}
		out[i].lines = append(out[i].lines, line)
	}
	return out
}
