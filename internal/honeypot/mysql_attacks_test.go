package honeypot_test

import (
	"context"
	"database/sql"
	"net"
	"net/netip"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Published attacks on MySQL end in evidence: each statement with whether it was refused, and the files that the server wrote. What the
// attacker wrote by SQL lies where it finds it by SSH.
func TestMySQLAttacksEndInEvidence(t *testing.T) {
	f, _ := newBuiltin(t)
	l := f.grantService(t, "203.0.113.66/32", event.MySQL)
	require.ErrorContains(t, f.queries(t, l.Endpoint, "wrong", "SELECT 1"), "Error 1045 (28000): Access denied for user 'root'@'")
	f.attacks(t, l, client{
		send: func(t *testing.T, statements []string) {
			t.Helper()
			_ = f.queries(t, l.Endpoint, "right", statements...) // that some are refused is seen in the evidence
		},
		asked: func(r event.Request) (string, bool) {
			if r.Args[0] != "COM_QUERY" {
				return "", false
			}
			return string(r.Args[1]), true
		},
		sent: func(t *testing.T, statements, evidence []string) {
			t.Helper()
			assert.Equal(t, statements, evidence)
		},
	})
	out, err := f.shell(t.Context(), f.grant(t, "203.0.113.66/32").Endpoint, "cat /tmp/shell.php; ls -d /var/lib/mysql/PLEASE_READ_ME")
	require.NoError(t, err)
	assert.Equal(t, "<?php system($_GET[\"c\"]); ?>\n/var/lib/mysql/PLEASE_READ_ME\n", out)
}

// queries logs in to a database as root and asks for one after another, whatever is refused.
func (f *fixture) queries(t *testing.T, to netip.AddrPort, password string, statements ...string) (last error) {
	t.Helper()
	cfg := driver.NewConfig()
	cfg.User, cfg.Passwd, cfg.Timeout, cfg.ReadTimeout = "root", password, time.Minute, time.Minute
	cfg.Logger = &driver.NopLogger{}
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dial(ctx, to) }
	connector, err := driver.NewConnector(cfg)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	defer db.Close() //nolint:errcheck // a test's connection
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			last = err
		}
	}
	return last
}
