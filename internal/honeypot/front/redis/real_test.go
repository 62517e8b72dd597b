package redis_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	redigo "github.com/gomodule/redigo/redis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/redis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	own   = "the pot's own password"
	right = "foobared"
)

// server is a real Redis that stands for the pot's.
func server(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	address, port := fronttest.FreeAddress(t)
	settings := filepath.Join(dir, "redis.conf")
	require.NoError(t, os.WriteFile(settings, []byte(fmt.Sprintf("port %s\nbind 127.0.0.1\nsave \"\"\ndir %s\nrequirepass %q\nlogfile %s/log\n", port, dir, own, dir)), 0o600))
	fronttest.Start(t, address, exec.Command("redis-server", settings))
	return address
}

// open starts a front before a server.
func open(t testing.TB, address string, options ...fronttest.Option) *fronttest.Site {
	t.Helper()
	return openTo(t, func() front.Stay {
		return fronttest.Stay{ID: "pot", Address: address, Account: "default", Password: own}
	}, options...)
}

// openTo is open before whichever pot there is.
func openTo(t testing.TB, pot func() front.Stay, options ...fronttest.Option) *fronttest.Site {
	t.Helper()
	return fronttest.New(t, event.Redis, redis.New(front.Guard{
		Reach: front.Reach{Enter: func(context.Context, event.PotKey) (front.Stay, error) {
			return pot(), nil
		}},
		Policy: fronttest.Policy(t, event.Redis), Hash: fronttest.Hash,
	}), options...)
}

func dial(t testing.TB, address string) redigo.Conn { //nolint:ireturn // the library has its connections as interfaces only
	t.Helper()
	c, err := redigo.Dial("tcp", address, redigo.DialReadTimeout(time.Minute))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// letIn has the policy accept a password.
func letIn(t testing.TB, s *fronttest.Site) {
	t.Helper()
	c := dial(t, s.Address)
	_, err := c.Do("AUTH", "wrong")
	require.ErrorContains(t, err, "WRONGPASS")
	_, err = c.Do("AUTH", right)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	s.Ended(t, 1)
}

func TestWhoGetsIn(t *testing.T) {
	s := open(t, server(t))
	c := dial(t, s.Address)
	_, err := c.Do("GET", "a")
	require.EqualError(t, err, "NOAUTH Authentication required.")
	for _, args := range [][]any{{"wrong"}, {"default", "wrong"}, {"admin", "another"}, {own}} {
		_, err = c.Do("AUTH", args...)
		if slices.Equal(args, []any{own}) { // the second distinct guess
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, "WRONGPASS invalid username-password pair or user is disabled.", "%v", args)
	}
	_, err = c.Do("AUTH", "a", "b", "c")
	require.EqualError(t, err, "ERR syntax error")
	value, err := redigo.StringMap(c.Do("CONFIG", "GET", "requirepass"))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"requirepass": own}, value, "the password that was guessed is the server's")
	_, err = c.Do("CONFIG", "SET", "requirepass", "mine")
	require.NoError(t, err)
	again := dial(t, s.Address)
	_, err = again.Do("HELLO", 3, "AUTH", "default", "wrong2", "SETNAME", "x")
	require.ErrorContains(t, err, "WRONGPASS")
	_, err = again.Do("AUTH", "mine")
	require.NoError(t, err, "the pot is its own")
	require.NoError(t, c.Close())
	require.NoError(t, again.Close())
	sessions := s.Ended(t, 2)
	var logins []string
	for _, session := range sessions {
		for _, e := range session.Evidence {
			if e.Login != nil {
				logins = append(logins, fmt.Sprintf("%s %s %s %v", e.Login.Method, e.Login.Account, e.Login.Password, e.Login.Success))
			}
		}
	}
	assert.ElementsMatch(t, []string{
		"AUTH default wrong false", "AUTH default wrong false", "AUTH admin another false", "AUTH default " + own + " true",
		"HELLO default wrong2 false", "AUTH default mine true",
	}, logins)
}

// A pot that was lost is replaced by one that has never heard of the attacker's password.
func TestAnotherPotHasTheSamePassword(t *testing.T) {
	pots := []string{server(t), server(t)}
	var now atomic.Int32
	s := openTo(t, func() front.Stay {
		n := now.Load()
		return fronttest.Stay{ID: strconv.Itoa(int(n)), Address: pots[n], Account: "default", Password: own}
	})
	letIn(t, s)
	for range 2 {
		for range 3 {
			c := dial(t, s.Address)
			_, err := c.Do("AUTH", right)
			require.NoError(t, err)
			log, err := redigo.Values(c.Do("ACL", "LOG"))
			require.NoError(t, err)
			assert.LessOrEqual(t, len(log), 1, "the front asks without leaving a sign")
		}
		now.Store(1)
	}
}

// An image that does not say how one logs in has its own password open.
func TestServerOfWhichNothingIsKnown(t *testing.T) {
	address := server(t)
	s := openTo(t, func() front.Stay { return fronttest.Stay{Address: address} })
	c := dial(t, s.Address)
	_, err := c.Do("AUTH", "wrong")
	require.ErrorContains(t, err, "WRONGPASS")
	_, err = c.Do("AUTH", own)
	require.NoError(t, err)
}

func TestPasswordsOfKnownPeopleAreNotKept(t *testing.T) {
	s := open(t, server(t), fronttest.Known)
	letIn(t, s)
	session := s.Ended(t, 1)[0]
	for _, e := range session.Evidence {
		if e.Login != nil {
			assert.Empty(t, e.Login.Password)
			assert.Equal(t, fronttest.Hashed, e.Login.Hash)
		}
	}
	data, err := os.ReadFile(session.Recording)
	require.NoError(t, err)
	assert.NotContains(t, string(data), right)
	assert.NotContains(t, string(data), "wrong")
}

func TestWhatIsAskedForIsNoted(t *testing.T) {
	s := open(t, server(t))
	letIn(t, s)
	c := dial(t, s.Address)
	_, err := c.Do("AUTH", right)
	require.NoError(t, err)
	key := "\n\nssh-rsa AAAAB3 mdrfckr\n\n"
	for _, args := range [][]any{{"SET", "crackit", key}, {"CONFIG", "SET", "dir", "/nowhere"}, {"EVAL", "return 7", "0"}, {"NOSUCH"}} {
		_, _ = c.Do(args[0].(string), args[1:]...)
	}
	require.NoError(t, c.Close())
	var got []event.Request
	for _, e := range s.Ended(t, 2)[1].Evidence {
		if e.Request != nil {
			got = append(got, *e.Request)
		}
	}
	require.Len(t, got, 4)
	assert.Equal(t, event.Request{Args: []event.Bytes{"SET", "crackit", event.Bytes(key)}, Size: int64(len("SETcrackit" + key)), Answer: "+OK\r\n", Answered: 5}, got[0])
	assert.True(t, got[1].Failed)
	assert.Contains(t, string(got[1].Answer), "CONFIG SET failed")
	assert.Equal(t, event.Bytes(":7\r\n"), got[2].Answer)
	assert.True(t, got[3].Failed)
}

// What the server sends without being asked belongs to no request.
func TestPublishedMonitoredAndPushed(t *testing.T) {
	address := server(t)
	s := open(t, address)
	letIn(t, s)
	send := func(c net.Conn, text string) { _, err := io.WriteString(c, text); require.NoError(t, err) }
	expect := func(r *bufio.Reader, want string) {
		t.Helper()
		for line := range strings.Lines(want) {
			got, err := r.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, line, got)
		}
	}
	subscriber, monitor, three := s.Dial(t), s.Dial(t), s.Dial(t)
	var readers []*bufio.Reader
	for _, c := range []net.Conn{subscriber, monitor, three} {
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
		send(c, "AUTH "+right+"\r\n")
		readers = append(readers, bufio.NewReader(c))
		expect(readers[len(readers)-1], "+OK\r\n")
	}
	send(subscriber, "SUBSCRIBE news\r\n")
	expect(readers[0], "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n")
	send(monitor, "MONITOR\r\n")
	expect(readers[1], "+OK\r\n")
	send(three, "HELLO 3\r\n")
	for line := ""; line != "*0\r\n"; { // the end of its map
		var err error
		line, err = readers[2].ReadString('\n')
		require.NoError(t, err)
	}
	send(three, "SUBSCRIBE news\r\nPING\r\n")
	expect(readers[2], ">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n+PONG\r\n")
	direct := dial(t, address)
	_, err := direct.Do("AUTH", right)
	require.NoError(t, err)
	_, err = direct.Do("PUBLISH", "news", "hello")
	require.NoError(t, err)
	expect(readers[0], "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n")
	expect(readers[2], ">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n")
	for {
		line, err := readers[1].ReadString('\n')
		require.NoError(t, err)
		if strings.Contains(line, `"PUBLISH" "news" "hello"`) {
			break
		}
	}
	send(subscriber, "PING\r\n")
	expect(readers[0], "*2\r\n$4\r\npong\r\n$0\r\n\r\n")
	for _, c := range []net.Conn{subscriber, monitor, three} {
		require.NoError(t, c.Close())
	}
	var asked []string
	for _, session := range s.Ended(t, 4)[1:] {
		for _, e := range session.Evidence {
			if e.Request != nil {
				asked = append(asked, string(e.Request.Args[0]))
			}
		}
	}
	assert.ElementsMatch(t, []string{"SUBSCRIBE", "PING", "MONITOR", "HELLO", "SUBSCRIBE", "PING"}, asked)
}

func TestRealClients(t *testing.T) {
	s := open(t, server(t))
	letIn(t, s)
	host, port, err := net.SplitHostPort(s.Address)
	require.NoError(t, err)
	run := func(stdin string, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, append([]string{"-h", host, "-p", port, "-a", right}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		var out bytes.Buffer
		cmd.Stdout = &out
		require.NoError(t, cmd.Run(), "%s %v: %s", name, args, &out)
		return out.String()
	}
	assert.Equal(t, "PONG\n", run("", "redis-cli", "--no-auth-warning", "ping"))
	assert.Contains(t, run("", "redis-cli", "--no-auth-warning", "-3", "hello"), "proto 3")
	assert.Equal(t, "OK\n1\n", run("set a 1\nget a\n", "redis-cli", "--no-auth-warning"))
	pipe := strings.Repeat("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n", 50_000)
	assert.Contains(t, run(pipe, "redis-cli", "--no-auth-warning", "--pipe"), "errors: 0, replies: 50000")
	assert.Contains(t, run("", "redis-benchmark", "-n", "20000", "-c", "20", "-P", "16", "-q", "-t", "set,get,lrange_100"), "GET")
}

// TestAnswersAreTheServers sends the same requests to the server and through the front, and compares every byte.
// What lies in tables has another order on each server, and is not asked for as a whole.
func TestAnswersAreTheServers(t *testing.T) {
	straight, behind := server(t), server(t)
	s := open(t, behind)
	letIn(t, s)
	connect := func(address, password string) (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_, err = fmt.Fprintf(c, "*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n", len(password), password)
		require.NoError(t, err)
		r := bufio.NewReader(c)
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "+OK\r\n", line)
		return c, r
	}
	a, fromA := connect(straight, own)
	b, fromB := connect(s.Address, right)
	key := rapid.SampledFrom([]string{"a", "b", "list", "hash", "set", "z"})
	value := rapid.OneOf(rapid.StringN(0, 40, 200), rapid.SampledFrom([]string{"", "1", "-7", "\r\n", "*1\r\n$4\r\nPING\r\n", strings.Repeat("x", 70_000)}))
	shape := rapid.SampledFrom([]string{
		"GET k", "SET k v", "APPEND k v", "STRLEN k", "INCR k", "DEL k", "EXISTS k", "TYPE k", "GETRANGE k 0 10", "SETRANGE k 5 v", "LPUSH k v v", "RPOP k",
		"LRANGE k 0 -1", "HSET k v v", "HGET k v", "HLEN k", "HDEL k v", "SADD k v v", "SCARD k", "SISMEMBER k v", "ZADD k 1 v", "ZRANGE k 0 -1 WITHSCORES",
		"MULTI", "EXEC", "DISCARD", "ECHO v", "PING", "PING v", "NOSUCH v", "EXPIRE k 1000", "PERSIST k", "BITCOUNT k", "RENAME k k", "COPY k k", "TOUCH k k",
		"OBJECT ENCODING k", "HELLO 2", "HELLO 3", "SELECT 1", "SELECT 0", "DBSIZE", "FLUSHDB", "CONFIG GET maxmemory", "COMMAND COUNT", "EVAL return{1,ARGV[1]} 0 v",
	})
	const end = "kokkuri-end"
	sent := 0
	for sent < 10_000 {
		var out []byte
		typed := rand.IntN(4) == 0
		n := 1 + rand.IntN(30)
		for range n {
			words := strings.Fields(shape.Example(rand.Int()))
			for i, w := range words {
				switch w {
				case "k":
					words[i] = key.Example(rand.Int())
				case "v":
					words[i] = value.Example(rand.Int())
				}
			}
			out = appendAsked(out, words, typed)
		}
		sent += n
		out = appendAsked(appendAsked(out, []string{"DISCARD"}, false), []string{"ECHO", end}, false)
		var answers [2][]byte
		for i, c := range []struct {
			conn net.Conn
			r    *bufio.Reader
		}{{a, fromA}, {b, fromB}} {
			wrote := make(chan error, 1)
			go func() { _, err := c.conn.Write(out); wrote <- err }()
			require.NoError(t, c.conn.SetReadDeadline(time.Now().Add(time.Minute)))
			for !bytes.HasSuffix(answers[i], []byte("$11\r\n"+end+"\r\n")) {
				line, err := c.r.ReadBytes('\n')
				require.NoError(t, err)
				answers[i] = append(answers[i], line...)
			}
			require.NoError(t, <-wrote)
		}
		// The number of the connection is in what HELLO says.
		require.Equal(t, ids(answers[0]), ids(answers[1]), "%q", out)
	}
	t.Logf("%d requests", sent)
}

func ids(b []byte) string {
	var out strings.Builder
	for {
		i := bytes.Index(b, []byte("$2\r\nid\r\n:"))
		if i < 0 {
			out.Write(b)
			return out.String()
		}
		out.Write(b[:i])
		b = b[i+len("$2\r\nid\r\n:"):]
		b = b[bytes.IndexByte(b, '\n')+1:]
	}
}

// appendAsked appends a request as an array, or as it would be typed.
func appendAsked(b []byte, words []string, typed bool) []byte {
	if typed && len(strings.Join(words, "")) < 1000 {
		for i, w := range words {
			if i > 0 {
				b = append(b, ' ')
			}
			b = append(b, '"')
			for _, c := range []byte(w) {
				b = fmt.Appendf(b, `\x%02x`, c)
			}
			b = append(b, '"')
		}
		return append(b, '\r', '\n')
	}
	b = fmt.Appendf(b, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b
}

func TestALargeRequestCostsNoMemory(t *testing.T) {
	s := open(t, server(t))
	letIn(t, s)
	conn := s.Dial(t)
	_, err := io.WriteString(conn, "AUTH "+right+"\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$536870912\r\n")
	require.NoError(t, err)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	before, chunk := heap(), make([]byte, 1<<20)
	most := before
	for i := range 512 {
		_, err := conn.Write(chunk)
		require.NoError(t, err)
		if i%64 == 0 {
			most = max(most, heap())
		}
	}
	_, err = io.WriteString(conn, "\r\nSTRLEN a\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	r := bufio.NewReader(conn)
	for _, want := range []string{"+OK\r\n", "+OK\r\n", ":536870912\r\n"} {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, want, line)
	}
	assert.Less(t, most, before+32<<20)
}

func TestTenThousandGarbageConnections(t *testing.T) {
	fronttest.Garbage(t, open(t, server(t)),
		"\x00", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "*1000000000\r\n", "*3\r\n$-5\r\n", "AUTH", "\x16\x03\x01", "*2\r\n$4\r\nAUTH\r\n$99999999\r\n", "'\r\n")
}
