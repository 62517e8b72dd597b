package postgres_test

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
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
	"github.com/kokkuri/kokkuri/internal/honeypot/certificate"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	own   = "the pot's 'own' password"
	wrong = "admin" // as all that is guessed often
	right = "secret"
	stale = "of an honest application"
)

// server is a real PostgreSQL that stands for the pot's, with a method of logging in and a database.
func server(t testing.TB, method string, settings ...string) string {
	t.Helper()
	programs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	require.NoError(t, err)
	require.NotEmpty(t, programs)
	bin := programs[len(programs)-1]
	dir, err := os.MkdirTemp("", "kokkuri-postgres-") //nolint:usetesting // the server's user can't enter the others
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777))
	as := func(args ...string) *exec.Cmd {
		cmd := exec.Command("runuser", append([]string{"-u", "postgres", "--"}, args...)...)
		cmd.Dir = dir
		return cmd
	}
	password := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(password, []byte(own), 0o644))
	data := filepath.Join(dir, "data")
	encryption := "scram-sha-256"
	if method == "md5" {
		encryption = "md5"
	}
	out, err := as(filepath.Join(bin, "initdb"), "-D", data, "-A", encryption, "--pwfile="+password, "--no-sync", "-E", "UTF8", "--locale=C").CombinedOutput()
	require.NoError(t, err, string(out))
	certs, err := certificate.Open(filepath.Join(dir, "certificates"))
	require.NoError(t, err)
	cert, err := certs.Of("db")
	require.NoError(t, err)
	key, is := cert.PrivateKey.(*rsa.PrivateKey)
	require.True(t, is)
	for name, block := range map[string]*pem.Block{
		"server.crt": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, "server.key": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
	} {
		path := filepath.Join(data, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
		out, err := exec.Command("chown", "postgres", path).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	require.NoError(t, os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte("host all all all "+method+"\nlocal all all trust\n"), 0o644))
	address, port := fronttest.FreeAddress(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = log.Close() })
	// Without runuser between, which would be killed in the server's place.
	args := []string{"--reuid=postgres", "--regid=postgres", "--clear-groups", filepath.Join(bin, "postgres"), "-D", data, "-p", port}
	for _, s := range append([]string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=" + dir, "fsync=off", "ssl=on", "max_connections=100", "shared_buffers=16MB", "authentication_timeout=600s",
		"password_encryption=" + encryption,
	}, settings...) {
		args = append(args, "-c", s)
	}
	cmd := exec.Command("setpriv", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // a fast shutdown: killed, it leaves its children
		_ = cmd.Wait()
	})
	if !assert.Eventually(t, func() bool { _, err := psql(t, address, "postgres", own, "", one); return err == nil }, 20*time.Second, 20*time.Millisecond) {
		said, _ := os.ReadFile(log.Name())
		t.Fatalf("the server does not start:\n%s", said)
	}
	_, err = psql(t, address, "postgres", own, "", "CREATE DATABASE shop")
	require.NoError(t, err)
	return address
}

const one = "SELECT 1"

// failure is what a client said that failed.
type failure struct{ says string }

// Error implements error.
func (f failure) Error() string { return f.says }

// psql runs the command line client.
func psql(t testing.TB, address, account, password, more, sql string, args ...string) (string, error) {
	t.Helper()
	return run(t, "psql", address, account, password, more, append([]string{"--no-psqlrc", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql}, args...)...)
}

// run runs one of the server's own clients.
func run(t testing.TB, program, address, account, password, more string, args ...string) (string, error) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	target := "host=" + host + " port=" + port + " user=" + account + " dbname=postgres " + more
	if program == "pgbench" { // in which -d is something else
		args = append(args, target)
	} else {
		args = append([]string{"-d", target}, args...)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password, "PGCONNECT_TIMEOUT=60")
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
	return openTo(t, func() front.Stay {
		return fronttest.Stay{ID: "pot", Address: address, Account: "postgres", Password: own}
	}, options...)
}

// openTo is open before whichever pot there is.
func openTo(t testing.TB, pot func() front.Stay, options ...fronttest.Option) *fronttest.Site {
	t.Helper()
	return fronttest.New(t, event.Postgres, postgres.New(front.Guard{
		Reach:  front.Reach{Enter: func(context.Context, event.PotKey) (front.Stay, error) { return pot(), nil }},
		Policy: fronttest.Policy(t, event.Postgres), Hash: fronttest.Hash, Certificates: fronttest.Certificates(t), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}), options...)
}

// letIn has the policy accept the password of postgres.
func letIn(t testing.TB, s *fronttest.Site) {
	t.Helper()
	_, err := psql(t, s.Address, "postgres", wrong, "sslmode=disable", one)
	require.Error(t, err)
	_, err = psql(t, s.Address, "postgres", right, "sslmode=disable", one)
	require.NoError(t, err)
	s.Ended(t, 2)
}
