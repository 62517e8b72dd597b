package honeypot_test

import (
	"bufio"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// newBuiltin runs a node with the image that it builds itself.
func newBuiltin(t *testing.T, change ...func(*honeypot.Options)) (*fixture, *honeypot.Node) {
	t.Helper()
	d, err := engine.New(engine.Options{})
	require.NoError(t, err)
	require.NoError(t, honeypot.BuildImage(t.Context(), d, t.Output())) // here nobody waits in vain for it
	require.NoError(t, d.Close())
	f := newFixture(t)
	f.opts.Image = ""
	for _, c := range change {
		c(&f.opts)
	}
	n, _ := f.run(t)
	return f, n
}

// say sends lines to an endpoint and returns the first line of the answer.
func (f *fixture) say(ctx context.Context, l event.Lease, text string) (string, error) {
	conn, err := f.dial(ctx, l.Endpoint)
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // a test's connection
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

func TestBuiltinImage(t *testing.T) {
	f, n := newBuiltin(t)
	l := f.grant(t, "203.0.113.66/32")
	_, err := f.shell(t.Context(), l.Endpoint, "true")
	require.NoError(t, err)
	assert.Empty(t, n.Findings())
	d, err := engine.New(engine.Options{})
	require.NoError(t, err)
	services, err := d.Services(t.Context(), honeypot.BuiltinImage)
	require.NoError(t, err)
	assert.Equal(t, map[event.Service]uint16{
		event.SSH: 22, event.FTP: 21, event.Telnet: 23, event.HTTP: 80, event.MySQL: 3306, event.Postgres: 5432, event.Redis: 6379,
	}, services)
	require.NoError(t, d.Close())
}

// Whichever service an attacker comes through, it meets one machine: what it writes by one is there by the other.
// A service starts when somebody comes for it, once for all that come, and again where it ended.
func TestServicesStartWhenSomebodyComes(t *testing.T) {
	f, n := newBuiltin(t)
	shell := f.grant(t, "203.0.113.66/32")
	redis := f.grantService(t, "203.0.113.66/32", event.Redis)
	listening := func() string {
		t.Helper()
		out, err := f.shell(t.Context(), shell.Endpoint, "ss -ltnH | awk '{print $4}' | grep -c :6379; true")
		require.NoError(t, err)
		return strings.TrimSpace(out)
	}
	require.Equal(t, "0", listening(), "Redis does not run before somebody comes for it")

	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			answer, err := f.say(t.Context(), redis, "PING\r\n")
			if assert.NoError(t, err, i) {
				assert.Equal(t, "-NOAUTH Authentication required.", answer, i)
			}
		})
	}
	wg.Wait()
	for _, guess := range []string{"wrong", "123456"} {
		_, err := f.say(t.Context(), redis, "AUTH "+guess+"\r\n")
		require.NoError(t, err)
	}
	assert.Equal(t, uint64(1), n.Stats().Pots.Roused, "one start for all")
	assert.Equal(t, 1, n.Stats().PotsHeld, "one pot for both services")
	require.NotEqual(t, "0", listening())
	out, err := f.shell(t.Context(), shell.Endpoint, `redis-cli -a 123456 --no-auth-warning set word seen
pidof redis-server | wc -w
ps -o ppid= -C redis-server
setpriv --reuid=redis --regid=redis --clear-groups sh -c 'tr "\0" "\n" </proc/$(pidof redis-server)/environ | grep -c SSH'
true`)
	require.NoError(t, err)
	assert.Equal(t, []string{"OK", "1", "1", "0"}, strings.Fields(out), "one server, a child of the first process, that knows nothing of how it was started")

	out, err = f.shell(t.Context(), shell.Endpoint, "grep -c ' CA ' /var/log/auth.log; true")
	require.NoError(t, err)
	assert.Equal(t, "0\n", out, "no log tells of a login that started it")

	// Its attacker ends it; whoever comes next has it again.
	_, err = f.shell(t.Context(), shell.Endpoint, "redis-cli -a 123456 --no-auth-warning save; pkill -9 redis-server; while pidof redis-server; do sleep 0.1; done")
	require.NoError(t, err)
	answer, err := f.say(t.Context(), redis, "AUTH 123456\r\n")
	require.NoError(t, err)
	assert.Equal(t, "+OK", answer)
	assert.Equal(t, uint64(2), n.Stats().Pots.Roused)

	// Its attacker removes it: the session ends and says why; the pot goes on.
	_, err = f.shell(t.Context(), shell.Endpoint, "rm /etc/init.d/redis-server; pkill -9 redis-server; while pidof redis-server; do sleep 0.1; done")
	require.NoError(t, err)
	_, err = f.say(t.Context(), redis, "AUTH 123456\r\n")
	require.Error(t, err)
	f.endsWith(t, event.Redis, "the service does not start")
	_, err = f.shell(t.Context(), shell.Endpoint, "true")
	require.NoError(t, err)
}

// endsWith waits for a session with a service that ended for a reason.
func (f *fixture) endsWith(t *testing.T, service event.Service, reason string) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, s := range f.bus.ended() {
			if s.Service == service && strings.Contains(s.Reason, reason) {
				return true
			}
		}
		return false
	}, time.Minute, 10*time.Millisecond)
}

// Redis lets in who has guessed often enough; what is asked of it is evidence, and what it writes lies where the attacker
// finds it by SSH.
func TestRedisOfAPot(t *testing.T) {
	f, _ := newBuiltin(t)
	l := f.grantService(t, "203.0.113.66/32", event.Redis)
	for said, want := range map[string]string{"GET a\r\n": "-NOAUTH ", "AUTH wrong\r\n": "-WRONGPASS "} {
		got, err := f.say(t.Context(), l, said)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(got, want), got)
	}
	conn, err := f.dial(t.Context(), l.Endpoint)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, "AUTH right\r\nCONFIG GET requirepass\r\nSET a b\r\nSAVE\r\n")
	require.NoError(t, err)
	const answer = "+OK\r\n*2\r\n$11\r\nrequirepass\r\n$5\r\nright\r\n+OK\r\n+OK\r\n"
	got := make([]byte, len(answer))
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	assert.Equal(t, answer, string(got))
	require.NoError(t, conn.Close())
	out, err := f.shell(t.Context(), f.grant(t, "203.0.113.66/32").Endpoint, "ls /var/lib/redis; service redis-server restart >/dev/null; until redis-cli -a right --no-auth-warning get a; do sleep 0.1; done")
	require.NoError(t, err)
	assert.Equal(t, "dump.rdb\nb\n", out, "the password is the server's also when it begins anew")
	require.Eventually(t, func() bool {
		for _, s := range f.bus.ended() {
			asked := 0
			for _, e := range f.bus.left(s.ID) {
				if e.Request != nil {
					asked++
				}
			}
			if s.Service == event.Redis && asked == 3 {
				return true
			}
		}
		return false
	}, time.Minute, 20*time.Millisecond)
}

// Many who come at once don't make the machine start more than it can hold.
func TestNoServiceStartsWhereMemoryIsShort(t *testing.T) {
	f, n := newBuiltin(t, func(o *honeypot.Options) { o.Pool.KeepFree = 1 << 60 })
	_, err := f.shell(t.Context(), f.grant(t, "203.0.113.66/32").Endpoint, "true")
	require.NoError(t, err, "what runs with the pot is there")
	_, err = f.say(t.Context(), f.grantService(t, "203.0.113.66/32", event.Redis), "AUTH 123456\r\n")
	require.Error(t, err)
	f.endsWith(t, event.Redis, "short of memory")
	assert.Zero(t, n.Stats().Pots.Roused)
}

// All services of a pot at once stay far below what a pot may take.
func TestAllServicesFitIntoAPot(t *testing.T) {
	f, n := newBuiltin(t)
	greeting := map[event.Service]struct{ say, starts string }{
		event.FTP:   {"", "220 "},
		event.HTTP:  {"GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK"},
		event.Redis: {"PING\r\n", "-NOAUTH"},
	}
	for service, g := range greeting {
		answer, err := f.say(t.Context(), f.grantService(t, "203.0.113.66/32", service), g.say)
		require.NoError(t, err, service)
		assert.True(t, strings.HasPrefix(answer, g.starts), "%s says %q", service, answer)
	}
	// MariaDB's greeting is a packet that holds its version; PostgreSQL answers a request for TLS with one byte; telnetd begins with a command.
	for service, g := range map[event.Service]struct {
		say  string
		size int
		has  string
	}{
		event.MySQL:    {"", 40, "MariaDB"},
		event.Postgres: {"\x00\x00\x00\x08\x04\xd2\x16\x2f", 1, ""},
		event.Telnet:   {"", 1, "\xff"},
	} {
		conn, err := f.dial(t.Context(), f.grantService(t, "203.0.113.66/32", service).Endpoint)
		require.NoError(t, err, service)
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		_, err = io.WriteString(conn, g.say)
		require.NoError(t, err, service)
		got := make([]byte, g.size)
		_, err = io.ReadFull(conn, got)
		require.NoError(t, err, service)
		assert.Contains(t, string(got), g.has, service)
		require.NoError(t, conn.Close())
	}
	assert.Equal(t, uint64(6), n.Stats().Pots.Roused)
	assert.Equal(t, 1, n.Stats().PotsHeld)

	d, err := engine.New(engine.Options{Node: f.opts.Name})
	require.NoError(t, err)
	defer d.Close() //nolint:errcheck // idle connections
	pots, err := d.List(t.Context())
	require.NoError(t, err)
	require.Len(t, pots, 1)
	pot, _, err := d.Inspect(t.Context(), pots[0].ID)
	require.NoError(t, err)
	bytes, err := engine.Memory(pot.PID)
	require.NoError(t, err)
	t.Logf("a pot with all its services takes %d MiB", bytes>>20)
	assert.Less(t, bytes, int64(208<<20), "of 256 MiB, what attackers start has to find room, too")
}
