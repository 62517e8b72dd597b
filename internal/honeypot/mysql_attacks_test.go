package honeypot_test

import (
	"context"
	"database/sql"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// mysqlAttack is what somebody asks a database who got in, and what is left of it.
type mysqlAttack struct {
	Name    string   `yaml:"name"`
	Of      string   `yaml:"of"`
	Send    []string `yaml:"send"`
	Refused []string `yaml:"refused"`
	Wrote   string   `yaml:"wrote"` // in a file of the pot
}

// Published attacks on MySQL end in evidence: each statement with whether it was refused, and the files that the server wrote. What the
// attacker wrote by SQL lies where it finds it by SSH.
func TestMySQLAttacksEndInEvidence(t *testing.T) {
	data, err := os.ReadFile("testdata/mysql/attacks.yaml")
	require.NoError(t, err)
	var attacks []mysqlAttack
	require.NoError(t, yaml.UnmarshalWithOptions(data, &attacks, yaml.Strict()))
	f, _ := newBuiltin(t)
	l := f.grantService(t, "203.0.113.66/32", event.MySQL)
	require.ErrorContains(t, f.queries(t, l.Endpoint, "wrong", "SELECT 1"), "Error 1045 (28000): Access denied for user 'root'@'")
	for _, a := range attacks {
		t.Run(a.Name, func(t *testing.T) {
			_ = f.queries(t, l.Endpoint, "right", a.Send...) // that some are refused is seen in the evidence
			var sent, refused []string
			for _, e := range f.leftBy(t, l) {
				if e.Request == nil || e.Request.Args[0] != "COM_QUERY" {
					continue
				}
				sent = append(sent, string(e.Request.Args[1]))
				if e.Request.Failed {
					refused = append(refused, string(e.Request.Args[1]))
				}
			}
			assert.Equal(t, a.Send, sent)
			assert.Equal(t, a.Refused, refused)
			if a.Wrote != "" {
				require.Eventually(t, func() bool { return f.wrote(a.Wrote) }, time.Minute, 50*time.Millisecond, "no file has %q", a.Wrote)
			}
		})
	}
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
