package furnish_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/honeypot/furnish"
)

// aged makes a machine with a past, and returns its folder.
func aged(t *testing.T, x furnish.Past) string {
	t.Helper()
	dir, pot := system(t)
	for _, name := range []string{"var/log", "var/spool/cron/crontabs", "var/lib/dbus", "var/mail", "usr/local/sbin", "run", "home/martin"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etc/hostname"), []byte("web\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etc/group"), []byte("root:x:0:\ncrontab:x:101:\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "var/log/auth.log"), []byte("of the time when it waited\n"), 0o600))
	require.NoError(t, pot.Remember(x))
	require.NoError(t, pot.Boot(x.Booted, x.Release))
	return dir
}

// tree is all that is in a folder.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			out[strings.TrimPrefix(name, dir)] = read(t, name)
		}
		return err
	}))
	return out
}

func past() furnish.Past {
	now := time.Date(2024, 11, 26, 10, 30, 0, 0, time.UTC)
	return furnish.Past{Seed: []byte("secret"), Now: now, Booted: now.AddDate(0, 0, -40), Zone: time.UTC, Release: "6.1.0-28-amd64"}
}

func TestPastIsWhatItsToolsRead(t *testing.T) {
	dir := aged(t, past())
	env := []string{"TZ=UTC", "LC_ALL=C.UTF-8", "PATH=" + os.Getenv("PATH")}
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	last := run("last", "-F", "-f", filepath.Join(dir, "var/log/wtmp"))
	assert.Regexp(t, `(?m)^martin   pts/0        10\.\d+\.\d+\.\d+ +\w+ Nov .* \(\d\d:\d\d\)$`, last)
	assert.Regexp(t, `(?m)^reboot   system boot  6\.1\.0-28-amd64 +Thu Oct 17 10:30:00 2024`, last)
	assert.Regexp(t, `system boot  2024-10-17 10:30`, run("who", "-b", filepath.Join(dir, "run/utmp")))
	assert.Empty(t, run("who", filepath.Join(dir, "run/utmp")), "nobody is logged in")
	auth := read(t, dir, "var/log/auth.log")
	assert.Contains(t, auth, "Accepted publickey for martin from 10.")
	assert.NotContains(t, auth, "of the time when it waited")
	assert.Regexp(t, `(?m)^\d+ \d+ \* \* \* /usr/local/sbin/backup-etc$`, read(t, dir, "var/spool/cron/crontabs/root"))
}

func TestPastIsTheSameForTheSameMachine(t *testing.T) {
	one, two := tree(t, aged(t, past())), tree(t, aged(t, past()))
	assert.Equal(t, one, two)
	other := past()
	other.Seed = []byte("another")
	three := tree(t, aged(t, other))
	for _, name := range []string{"/etc/machine-id", "/var/log/wtmp", "/var/log/auth.log", "/home/martin/.bash_history"} {
		assert.NotEqual(t, one[name], three[name], name)
	}
}

// Whenever a machine was started, nothing happened before that, after now, or out of order.
func TestPastIsInOrder(t *testing.T) {
	stamp := regexp.MustCompile(`(?m)^\S+`)
	rapid.Check(t, func(r *rapid.T) {
		x := past()
		x.Now = x.Now.Add(time.Duration(rapid.IntRange(0, 1e6).Draw(r, "now")) * time.Minute)
		x.Booted = x.Now.Add(-time.Duration(rapid.IntRange(1, 1e5).Draw(r, "up")) * time.Minute)
		x.Seed = rapid.SliceOf(rapid.Byte()).Draw(r, "seed")
		dir := aged(t, x)
		for _, log := range []string{"auth.log", "syslog", "kern.log"} {
			text, err := os.ReadFile(filepath.Join(dir, "var/log", log))
			if err != nil && !os.IsNotExist(err) {
				r.Fatal(err)
			}
			former := x.Booted
			for _, text := range stamp.FindAllString(string(text), -1) {
				at, err := time.Parse("2006-01-02T15:04:05.000000-07:00", text)
				if err != nil || at.Before(former) || at.After(x.Now) {
					r.Fatalf("%s: %s after %s, booted %s, now %s: %v", log, text, former, x.Booted, x.Now, err)
				}
				former = at
			}
		}
	})
}

func BenchmarkRemember(b *testing.B) {
	for range b.N {
		b.StopTimer()
		dir := b.TempDir()
		for _, name := range []string{"etc", "var/log", "var/spool/cron/crontabs", "var/lib/dbus", "var/mail", "usr/local/sbin", "home/martin"} {
			require.NoError(b, os.MkdirAll(filepath.Join(dir, name), 0o755))
		}
		for name, text := range map[string]string{"hostname": "web\n", "passwd": "martin:x:1003:1003::/home/martin:/bin/bash\n", "group": "crontab:x:101:\n"} {
			require.NoError(b, os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o600))
		}
		pot, err := furnish.OpenRoot(dir)
		require.NoError(b, err)
		b.StartTimer()
		require.NoError(b, pot.Remember(past()))
		b.StopTimer()
		pot.Close()
	}
}
