package honeypot_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Published attacks on PostgreSQL end in evidence, as those on MySQL, and go nowhere. What the attacker wrote by SQL lies where it finds
// it by SSH.
func TestPostgresAttacksEndInEvidence(t *testing.T) {
	f, _ := newBuiltin(t)
	l := f.grantService(t, "203.0.113.66/32", event.Postgres)
	require.ErrorContains(t, f.postgres(t, l.Endpoint, "123456", "SELECT 1"), `FATAL: password authentication failed for user "postgres" (SQLSTATE 28P01)`)
	f.attacks(t, l, client{
		send: func(t *testing.T, statements []string) {
			t.Helper()
			_ = f.postgres(t, l.Endpoint, "postgres", statements...) // that some are refused is seen in the evidence
		},
		asked: func(r event.Request) (string, bool) {
			if r.Args[0] != "Query" {
				return "", false
			}
			return string(r.Args[1]), true
		},
		sent: func(t *testing.T, statements, evidence []string) {
			t.Helper()
			assert.Equal(t, statements, evidence)
		},
	})
	out, err := f.shell(t.Context(), f.grant(t, "203.0.113.66/32").Endpoint, "cat /tmp/pg.php; stat -c %U /tmp/.pg.sh")
	require.NoError(t, err)
	assert.Equal(t, "<?php system($_GET[\"c\"]); ?>\npostgres\n", out)
}

// postgres logs in to a database and asks for one after another, whatever is refused.
func (f *fixture) postgres(t *testing.T, to netip.AddrPort, password string, statements ...string) (last error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cfg, err := pgconn.ParseConfig("postgres://postgres@" + to.String() + "/postgres?sslmode=require")
	require.NoError(t, err)
	cfg.Password = password
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dial(ctx, to) }
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // a test's connection
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s).ReadAll(); err != nil {
			last = err
		}
	}
	return last
}
