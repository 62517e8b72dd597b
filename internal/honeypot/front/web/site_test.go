package web_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	own   = "Vb7tW2qLx9"
	right = "secret"
)

// server is a real nginx with a site, an administration that asks for a password, and a folder that files can be put in.
func server(t testing.TB, settings ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kokkuri-nginx-") //nolint:usetesting // the server's user can't enter the others
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	for _, d := range []string{"site/admin", "site/put", "tmp"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o777))
		require.NoError(t, os.Chmod(filepath.Join(dir, d), 0o777))
	}
	for name, text := range map[string]string{
		"site/index.html": "<h1>We are moving</h1>\n", "site/admin/index.html": "<h1>Orders</h1>\n", "site/large": strings.Repeat("0123456789", 100_000),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), time.Unix(1_700_000_000, 0), time.Unix(1_700_000_000, 0)))
	}
	hash, err := exec.CommandContext(t.Context(), "openssl", "passwd", "-apr1", own).Output()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "htpasswd"), []byte("admin:"+string(hash)), 0o644))
	address, _ := fronttest.FreeAddress(t)
	config := fmt.Sprintf(`daemon off; master_process off; worker_processes 1; user www-data; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path %[1]s/tmp; client_max_body_size 1100m; keepalive_requests 100000; absolute_redirect off; %[3]s
  server { listen %[2]s; root %[1]s/site; index index.html;
    location / { try_files $uri $uri/ =404; }
    location /admin/ { auth_basic "Administration"; auth_basic_user_file %[1]s/htpasswd; }
    location /put/ { dav_methods PUT DELETE; }
    location /say/ { return 200 "said\n"; }
    location /moved { return 302 /; }
  }
}`, dir, address, strings.Join(settings, " "))
	path := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(path, []byte(config), 0o644))
	cmd := exec.Command("nginx", "-c", path, "-p", dir)
	cmd.Stderr = os.Stderr
	fronttest.Start(t, address, cmd)
	return address
}

// open starts a front before a server.
func open(t testing.TB, address string, options ...fronttest.Option) *fronttest.Site {
	t.Helper()
	return fronttest.New(t, event.HTTP, web.New(front.Guard{
		Reach: front.Reach{Enter: func(context.Context, event.PotKey) (front.Stay, error) {
			return fronttest.Stay{ID: "pot", Address: address, Account: "admin", Password: own}, nil
		}},
		Policy: fronttest.Policy(t, event.HTTP), Hash: fronttest.Hash, Certificates: fronttest.Certificates(t),
	}), options...)
}

// curl returns the status and the body.
func curl(t testing.TB, url string, args ...string) (status int, body string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "curl", append([]string{"--silent", "--show-error", "--max-time", "60", "--write-out", "\n%{http_code}", url}, args...)...).CombinedOutput()
	require.NoError(t, err, string(out))
	i := strings.LastIndex(string(out), "\n")
	status, err = strconv.Atoi(string(out[i+1:]))
	require.NoError(t, err)
	return status, string(out[:i])
}

// guessed are the guesses of sessions: "METHOD ACCOUNT PASSWORD SUCCESS".
func guessed(sessions ...fronttest.Session) (out []string) {
	for _, l := range fronttest.Logins(sessions...) {
		out = append(out, fmt.Sprintf("%s %s %s%s %t", l.Method, l.Account, l.Password, l.Hash, l.Success))
	}
	return out
}
