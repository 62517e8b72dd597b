package collect

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// redisRoots names roots of other releases of Debian whose redis-server is tested as well; see docs/development.md.
const redisRoots = "KOKKURI_TEST_REDIS_ROOTS"

// redisServer is a real redis-server.
type redisServer struct {
	root string // empty: this machine's
	dir  string
	port int
	args []string
	cmd  *exec.Cmd
}

func startRedis(t *testing.T, root string, args ...string) *redisServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "redis") //nolint:usetesting // t.TempDir's paths are too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	port := 0
	require.Eventually(t, func() bool { // not one that the kernel gives to clients
		port = 15_000 + rand.IntN(5000)
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port))
		return err == nil && l.Close() == nil
	}, time.Minute, time.Millisecond)
	r := &redisServer{root: root, dir: dir, port: port, args: args}
	r.start(t)
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *redisServer) addr() string { return "127.0.0.1:" + strconv.Itoa(r.port) }

func (r *redisServer) start(t *testing.T) {
	t.Helper()
	args := append([]string{"--port", strconv.Itoa(r.port), "--save", "", "--appendonly", "no", "--protected-mode", "no"}, r.args...)
	program := "redis-server"
	if r.root == "" {
		args = append(args, "--dir", r.dir, "--unixsocket", filepath.Join(r.dir, "redis.sock"))
	} else {
		args = append([]string{r.root, program}, args...)
		program = "chroot"
	}
	r.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	r.cmd.Stdout, r.cmd.Stderr = &said, &said
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("redis-server said: %s", said.String())
		}
	})
	require.NoError(t, r.cmd.Start(), "redis-server is needed: apt-get install redis-server")
	require.Eventually(t, func() bool {
		conn, err := redis.Dial("tcp", r.addr())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond)
}

func (r *redisServer) stop() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

func (r *redisServer) do(t *testing.T, command string, args ...any) any {
	t.Helper()
	conn, err := redis.Dial("tcp", r.addr())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	reply, err := conn.Do(command, args...)
	require.NoError(t, err)
	return reply
}

// guess fails to log in from an address of the loopback network.
func (r *redisServer) guess(t *testing.T, from, user string) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := redis.Dial("tcp", r.addr(), redis.DialContextFunc(d.DialContext))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Do("AUTH", user, "guess")
	require.ErrorContains(t, err, "WRONGPASS")
}

// guesses sums what records count, by account, and by source.
func guesses(t *testing.T, lines []string) (byAccount, bySource map[string]int) {
	t.Helper()
	byAccount, bySource = map[string]int{}, map[string]int{}
	for _, l := range lines {
		if !strings.Contains(l, ` reason="auth" `) {
			continue
		}
		n, err := strconv.Atoi(param(l, "count"))
		require.NoError(t, err, l)
		byAccount[param(l, "account")] += n
		bySource[param(l, "source")] += n
	}
	return byAccount, bySource
}

func param(line, name string) string {
	_, rest, _ := strings.Cut(line, " "+name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

func counts(t *testing.T, s *stream, want map[string]int) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got, _ := guesses(t, s.got())
		assert.Equal(c, want, got)
	}, time.Minute, 20*time.Millisecond)
}

// roots are this machine's redis-server, and those of other releases where their roots were made.
func roots() map[string]string {
	out := map[string]string{"here": ""}
	for root := range strings.FieldsSeq(os.Getenv(redisRoots)) {
		out[filepath.Base(root)] = root
	}
	return out
}

func TestRedis(t *testing.T) {
	t.Parallel()
	for name, root := range roots() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testRedis(t, startRedis(t, root))
		})
	}
}

func testRedis(t *testing.T, r *redisServer) {
	t.Helper()
	r.guess(t, "127.0.0.2", "before")
	s := &stream{}
	o := Options{StateDir: t.TempDir(), Publish: s.publish, Redis: []Redis{{Address: r.addr()}}}
	c, stop := begun(t, o)
	require.Eventually(t, func() bool {
		found, _ := filepath.Glob(filepath.Join(o.StateDir, "cursors", "redis-*.json"))
		return len(found) == 1
	}, time.Minute, 10*time.Millisecond)

	// A brute force by a real client.
	for i := range 10 {
		out, _ := exec.CommandContext(t.Context(), "redis-cli", "-p", strconv.Itoa(r.port), "AUTH", "admin", "guess"+strconv.Itoa(i)).CombinedOutput()
		require.Contains(t, string(out), "WRONGPASS")
	}
	want := map[string]int{"admin": 10}
	counts(t, s, want)
	for range 25 {
		r.guess(t, "127.0.0.3", "root")
	}
	want["root"] = 25
	counts(t, s, want)
	_, bySource := guesses(t, s.got())
	require.Positive(t, bySource["127.0.0.3"])
	require.Contains(t, s.got()[0], " web redis-server - - [kokkuri@32473 ")

	// More names than Redis looks at when it folds, the same ones in turn.
	for i := range 60 {
		name := "user" + strconv.Itoa(i%12)
		r.guess(t, "127.0.0.4", name)
		want[name]++
	}
	counts(t, s, want)
	n := len(s.got())
	require.Never(t, func() bool { return len(s.got()) != n }, 3*redisPoll, redisPoll/2, "nothing comes twice")

	// The agent is away.
	stop()
	r.guess(t, "127.0.0.5", "root")
	r.guess(t, "127.0.0.5", "away")
	want["root"]++
	want["away"]++
	c, stop = begun(t, o)
	counts(t, s, want)

	// Somebody empties the log.
	r.do(t, "ACL", "LOG", "RESET")
	r.guess(t, "127.0.0.6", "away")
	want["away"]++
	counts(t, s, want)

	// The server starts again: its log is empty.
	r.stop()
	require.Eventually(t, func() bool { return len(c.Findings()) == 1 }, time.Minute, 10*time.Millisecond)
	r.start(t)
	r.guess(t, "127.0.0.6", "away")
	r.guess(t, "127.0.0.6", "away")
	want["away"] += 2
	counts(t, s, want)
	require.Eventually(t, func() bool { return len(c.Findings()) == 0 }, time.Minute, 10*time.Millisecond)

	// It overflows between two polls.
	stop()
	r.do(t, "CONFIG", "SET", "acllog-max-len", "16")
	for i := range 20 {
		r.guess(t, "127.0.0.7", "flood"+strconv.Itoa(i))
		if i >= 4 {
			want["flood"+strconv.Itoa(i)] = 1
		}
	}
	c, _ = begun(t, o)
	counts(t, s, want)
	require.Len(t, c.Findings(), 1)
	require.Contains(t, c.Findings()[0].Text, "overflowed")
}

func TestRedisFindings(t *testing.T) {
	t.Parallel()
	r := startRedis(t, "", "--user", "admin", "on", ">secret", "~*", "+@all", "--user", "default", "off")
	file := filepath.Join(t.TempDir(), "password")
	admin := func(command string, args ...any) {
		t.Helper()
		conn, err := redis.Dial("tcp", r.addr(), redis.DialUsername("admin"), redis.DialPassword("secret"))
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		_, err = conn.Do(command, args...)
		require.NoError(t, err)
	}
	require.NoError(t, os.WriteFile(file, []byte("secret\n"), 0o600))
	one := func(o Redis) string {
		t.Helper()
		c, stop := begun(t, Options{StateDir: t.TempDir(), Publish: (&stream{}).publish, Redis: []Redis{o}})
		defer stop()
		require.Eventually(t, func() bool { return len(c.Findings()) == 1 }, time.Minute, 10*time.Millisecond)
		return c.Findings()[0].Text + " – " + c.Findings()[0].Mend
	}
	require.Contains(t, one(Redis{Address: r.addr()}), "agent.redis[].password_file")
	require.Contains(t, one(Redis{Address: "127.0.0.1:1"}), "does the server run")
	require.Contains(t, one(Redis{Address: r.addr(), Username: "poller", PasswordFile: filepath.Join(t.TempDir(), "none")}), "no such file")
	admin("ACL", "SETUSER", "poller", "on", ">secret", "+info", "+time")
	require.Contains(t, one(Redis{Address: r.addr(), Username: "poller", PasswordFile: file}), "ACL SETUSER poller +acl|log")

	// With just what the mend says, over the socket.
	admin("ACL", "SETUSER", "poller", "on", ">secret", "+acl|log", "+time", "+info", "+config|get")
	s := &stream{}
	c, _ := begun(t, Options{
		StateDir: t.TempDir(), Publish: s.publish,
		Redis: []Redis{{Address: filepath.Join(r.dir, "redis.sock"), Username: "poller", PasswordFile: file}},
	})
	require.Eventually(t, func() bool { return c.roads[0].(*redisLog).polls.Load() > 0 }, time.Minute, 10*time.Millisecond)
	r.guess(t, "127.0.0.2", "x")
	counts(t, s, map[string]int{"x": 1})
	require.Empty(t, c.Findings())
}

// TestRedisTooOld: a server before Redis 6 knows no ACL. None runs on the releases of Debian that are tested; one whose
// command was renamed answers with the very same error.
func TestRedisTooOld(t *testing.T) {
	t.Parallel()
	r := startRedis(t, "", "--rename-command", "ACL", "")
	c, _ := begun(t, Options{StateDir: t.TempDir(), Publish: (&stream{}).publish, Redis: []Redis{{Address: r.addr()}}})
	require.Eventually(t, func() bool { return len(c.Findings()) == 1 }, time.Minute, 10*time.Millisecond)
	require.Contains(t, c.Findings()[0].Mend, "Redis 6")
}

// TestRedisKilled kills the collector again and again while clients guess from several addresses at once.
func TestRedisKilled(t *testing.T) {
	t.Parallel()
	for name, root := range roots() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t, root, "--acllog-max-len", "1000")
			k := newKilled(t, childSetup{Redis: r.addr()})
			k.launch()
			require.Eventually(t, func() bool {
				found, _ := filepath.Glob(filepath.Join(k.state, "cursors", "redis-*.json"))
				return len(found) == 1
			}, time.Minute, time.Millisecond)
			want := map[string]int{}
			var mu sync.Mutex
			var clients sync.WaitGroup
			for i := range 3 {
				clients.Go(func() {
					for range 200 {
						user := "user" + strconv.Itoa(rand.IntN(15))
						r.guess(t, fmt.Sprintf("127.0.0.%d", 2+i), user)
						mu.Lock()
						want[user]++
						mu.Unlock()
						<-time.After(rand.N(10 * time.Millisecond))
					}
				})
			}
			for range 12 {
				k.again(400 * time.Millisecond)
			}
			clients.Wait()
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				lines, _ := read(t, k.out)
				got, _ := guesses(t, lines)
				assert.Equal(c, want, got)
			}, time.Minute, 50*time.Millisecond)
		})
	}
}
