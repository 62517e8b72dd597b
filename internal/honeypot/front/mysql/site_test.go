package mysql_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/mysql"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	own   = "the pot's own password"
	right = "secret"
)

// server is a real MariaDB that stands for the pot's, with root's password and two databases.
func server(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kokkuri-mariadb-") //nolint:usetesting // the server's user can't enter the others
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	data := filepath.Join(dir, "data")
	out, err := exec.CommandContext(t.Context(), "mariadb-install-db", "--no-defaults", "--user=mysql", "--skip-test-db", "--datadir="+data,
		"--auth-root-authentication-method=normal", "--innodb-log-file-size=4M").CombinedOutput()
	require.NoError(t, err, string(out))
	setup := filepath.Join(dir, "setup.sql")
	require.NoError(t, os.WriteFile(setup, []byte(
		"CREATE USER root@'%' IDENTIFIED BY \""+own+"\";\nGRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;\nCREATE DATABASE shop;\n"+
			"DELETE FROM mysql.global_priv WHERE Host != '%' AND User != 'mariadb.sys';\nFLUSH PRIVILEGES;\n"), 0o644))
	address, port := fronttest.FreeAddress(t)
	cmd := exec.Command("mariadbd", "--no-defaults", "--user=mysql", "--datadir="+data, "--bind-address=127.0.0.1", "--port="+port,
		"--socket="+filepath.Join(data, "s"), "--skip-name-resolve", "--init-file="+setup, "--innodb-log-file-size=4M", "--innodb-buffer-pool-size=16M",
		"--innodb-flush-log-at-trx-commit=0", "--max-connect-errors=1000000", "--local-infile=1", "--max-allowed-packet=64M", "--log-error="+filepath.Join(data, "error.log"))
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if !assert.Eventually(t, func() bool { return client(t, address, "root", own, "", "-e", "SELECT 1") == nil }, 20*time.Second, 20*time.Millisecond) {
		said, _ := os.ReadFile(filepath.Join(data, "error.log"))
		t.Fatalf("the server does not start:\n%s", said)
	}
	return address
}

// failure is what a client said that failed.
type failure struct{ says string }

// Error implements error.
func (f failure) Error() string { return f.says }

// client runs the command line client.
func client(t testing.TB, address, account, password, stdin string, args ...string) error {
	t.Helper()
	_, err := run(t, "mariadb", address, account, password, stdin, args...)
	return err
}

// run runs one of the server's own clients.
func run(t testing.TB, program, address, account, password, stdin string, args ...string) (string, error) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, append([]string{"--no-defaults", "-h", host, "-P", port, "-u", account, "--password=" + password}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr, stdout strings.Builder
	cmd.Stderr, cmd.Stdout = &stderr, &stdout
	if err := cmd.Run(); err != nil {
		return stdout.String(), failure{strings.TrimSpace(stderr.String())}
	}
	return stdout.String(), nil
}

// open starts a front before a server.
func open(t testing.TB, address string, options ...fronttest.Option) *fronttest.Site {
	t.Helper()
	return openTo(t, func() front.Stay { return fronttest.Stay{ID: "pot", Address: address, Account: "root", Password: own} }, options...)
}

// openTo is open before whichever pot there is.
func openTo(t testing.TB, pot func() front.Stay, options ...fronttest.Option) *fronttest.Site {
	t.Helper()
	return fronttest.New(t, event.MySQL, mysql.New(front.Guard{
		Reach:  front.Reach{Enter: func(context.Context, event.PotKey) (front.Stay, error) { return pot(), nil }},
		Policy: fronttest.Policy(t, event.MySQL), Hash: fronttest.Hash,
	}), options...)
}

// letIn has the policy accept root's password.
func letIn(t testing.TB, s *fronttest.Site) {
	t.Helper()
	require.Error(t, client(t, s.Address, "root", "wrong", "", "-e", "SELECT 1"))
	require.NoError(t, client(t, s.Address, "root", right, "", "-e", "SELECT 1"))
	s.Ended(t, 2)
}
