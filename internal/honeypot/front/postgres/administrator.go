package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/kokkuri/kokkuri/internal/event"
)

// administrator sees to the accounts of the pot's server.
type administrator struct {
	c    *conversation
	made bool // an account, or its password
}

// Admit makes an account that its attacker logs in as, unless it is the administrator's own.
func (a *administrator) Admit(account string) error {
	if account == a.c.account {
		return nil
	}
	a.made = true
	return a.as(a.c.account, func(ctx context.Context, conn *pgconn.PgConn) error {
		// The policy lets nobody in with a name in which there is anything to quote.
		password := " PASSWORD '" + strings.ReplaceAll(a.c.own, "'", "''") + "'"
		_, err := conn.Exec(ctx, `CREATE ROLE "`+account+`" LOGIN SUPERUSER`+password).ReadAll()
		if _, is := errors.AsType[*pgconn.PgError](err); is { // the pot has it, with what it may
			_, err = conn.Exec(ctx, `ALTER ROLE "`+account+`" LOGIN`+password).ReadAll()
		}
		return err //nolint:wrapcheck // as does
	})
}

// Refuses reports whether the server does not let an account in by the pot's own password.
func (a *administrator) Refuses(account string) bool {
	err := a.as(account, func(context.Context, *pgconn.PgConn) error { return nil })
	_, is := errors.AsType[*pgconn.PgError](err)
	return is
}

// as logs in by the pot's own password.
func (a *administrator) as(account string, do func(context.Context, *pgconn.PgConn) error) error {
	ctx, cancel := context.WithTimeout(a.c.ctx, settleWithin)
	defer cancel()
	cfg, err := pgconn.ParseConfig("host=pot sslmode=disable dbname=postgres")
	if err != nil {
		return fmt.Errorf("log in to the pot: %w", err)
	}
	cfg.User, cfg.Password = account, a.c.own
	cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"192.0.2.1"}, nil } // never reached
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return a.c.stay.Dial(ctx, event.Postgres) }
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("log in to the pot: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // all was answered
	if err := do(ctx, conn); err != nil {
		return fmt.Errorf("have the pot's server make an account: %w", err)
	}
	return nil
}
