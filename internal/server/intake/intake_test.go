package intake

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTCP(t *testing.T) {
	t.Parallel()
	s := newStream()
	in, _ := launch(t, s, nil)
	conn := dial(t, in, "")
	send(t, conn, "<38>"+line+" 1\n")
	s.untilN(t, 1)
	send(t, conn, counted("<38>1 2026-11-22T18:00:00.1Z web.example.net sshd 1 - - 2 with\nnewline"))
	s.untilN(t, 2)
	send(t, conn, counted("<38>2026-11-22T18:00:00.1+00:00 www sshd[1]: 3")+"<38>"+line+" 4\n")
	s.untilN(t, 4)
	assert.Equal(t, []string{
		"web/syslog-tcp: " + line + " 1",
		"web/syslog-tcp: 1 2026-11-22T18:00:00.1Z web.example.net sshd 1 - - 2 with#012newline",
		"web/syslog-tcp: 2026-11-22T18:00:00.1+00:00 www sshd[1]: 3",
		"web/syslog-tcp: " + line + " 4",
	}, s.lines())
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Equal(t, "127.0.0.1", s.batches[0].Origin)
	assert.NotEqual(t, s.batches[0].ID, s.batches[1].ID)
}

func TestForeignLinesArePutAside(t *testing.T) {
	t.Parallel()
	s := newStream()
	in, _ := launch(t, s, nil)
	web, db := dial(t, in, ""), dial(t, in, "127.0.0.2")
	send(t, db, "<38>"+line+" sent by db\n")
	send(t, web, "<38>Nov 22 18:00:00 sshd[1]: no host\n<38>\x1b[2Jgarbage\n<38>Nov 22 18:00:00 stranger sshd[1]: x\n<38>"+line+" sent by web\n")
	s.untilN(t, 1)
	eventually(t, "quarantine", func() bool { return len(in.Stats().Quarantine) == 4 })
	assert.Equal(t, []string{"web/syslog-tcp: " + line + " sent by web"}, s.lines())
	st := in.Stats()
	assert.Equal(t, map[string]int64{"other_host": 2, "no_host": 2}, st.Quarantined)
	for _, q := range st.Quarantine {
		if strings.Contains(q.Line, "sent by db") {
			assert.Equal(t, netip.MustParseAddr("127.0.0.2"), q.Sender)
			assert.Equal(t, reasonOtherHost, q.Reason)
		}
	}
	for range 30 {
		send(t, db, "<38>"+strings.Repeat("z", 3000)+"\n")
	}
	eventually(t, "more quarantine", func() bool { return in.Stats().Quarantined["no_host"] == 32 })
	st = in.Stats()
	assert.Len(t, st.Quarantine, maxQuarantine)
	assert.Len(t, st.Quarantine[maxQuarantine-1].Line, maxQuarantineLine)
	assert.EqualValues(t, 2, st.Counters()["quarantined_other_host"])
	assert.NotEmpty(t, in.Findings())
}

func TestUnknownSenderIsRefused(t *testing.T) {
	t.Parallel()
	s := newStream()
	in, _ := launch(t, s, nil)
	conn := dial(t, in, "127.0.0.3")
	closed(t, conn)
	assert.EqualValues(t, 1, in.Stats().RefusedUnknown)
}

// TestHostForgotten: a host that is removed is heard no longer, not even on the connection it has.
func TestHostForgotten(t *testing.T) {
	t.Parallel()
	s, r := newStream(), newRegistry()
	in, _ := launch(t, s, func(o *Options) { o.HostOf = r.hostOf })
	conn := dial(t, in, "")
	send(t, conn, "<38>"+line+"\n")
	s.untilN(t, 1)
	r.mu.Lock()
	delete(r.byAddr, netip.MustParseAddr("127.0.0.1"))
	r.mu.Unlock()
	send(t, conn, "<38>"+line+"\n")
	closed(t, conn)
	assert.Len(t, s.lines(), 1)
}

// TestBackPressure: while the bus takes nothing, the sender comes to a stand, and after that nothing is missing.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	s := newStream()
	s.gate = make(chan struct{})
	in, _ := launch(t, s, nil)
	conn := dial(t, in, "")
	const want = 200_000
	sent := make(chan int, want)
	go func() {
		defer close(sent)
		for i := range want {
			if _, err := fmt.Fprintf(conn, "<38>%s %d\n", line, i); err != nil {
				return
			}
			sent <- i
		}
	}()
	before := -1
	eventually(t, "sender stands", func() bool { // the kernel's buffers are full
		n := len(sent)
		defer func() { before = n }()
		return n == before && n > 0 && n < want
	})
	s.set(func() { close(s.gate) })
	s.untilN(t, want)
	for i, l := range s.lines() {
		require.Equal(t, fmt.Sprintf("web/syslog-tcp: %s %d", line, i), l)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		require.LessOrEqual(t, len(b.Lines), maxLines)
	}
}

func TestBusDownThenUp(t *testing.T) {
	t.Parallel()
	s := newStream()
	s.err = errDown
	in, _ := launch(t, s, nil)
	conn := dial(t, in, "")
	send(t, conn, "<38>"+line+"\n")
	eventually(t, "retry", func() bool { return in.Stats().Retries > 1 })
	s.set(func() { s.err = nil })
	s.untilN(t, 1)
	assert.Len(t, s.lines(), 1)
}

// TestStop: what was sent before the stop is still taken, and a connection that does not end is ended.
func TestStop(t *testing.T) {
	t.Parallel()
	s := newStream()
	in, stop := launch(t, s, nil)
	conn := dial(t, in, "")
	send(t, conn, "<38>"+line+"\n")
	s.untilN(t, 1)
	send(t, conn, "<38>"+line+"\n<38>half")
	stop()
	assert.Len(t, s.lines(), 2)
	assert.EqualValues(t, 1, in.Stats().HalfFrames)
	assert.Zero(t, in.Stats().LostAtStop)
}

func TestStopWhileTheBusIsDown(t *testing.T) {
	t.Parallel()
	s := newStream()
	s.gate = make(chan struct{})
	in, stop := launch(t, s, nil)
	conn := dial(t, in, "")
	send(t, conn, "<38>"+line+"\n")
	eventually(t, "connection", func() bool { return in.Stats().Connections == 1 })
	stop()
	assert.LessOrEqual(t, in.Stats().LostAtStop, int64(1)) // 0 where it had not been read
	assert.Empty(t, s.lines())
}

func TestHostileFrames(t *testing.T) {
	t.Parallel()
	s := newStream()
	in, _ := launch(t, s, nil)
	conn := dial(t, in, "")
	send(t, conn, "<38>"+line+" 1\n99999999 <38>")
	closed(t, conn)
	assert.EqualValues(t, 1, in.Stats().BadFrames)
	conn = dial(t, in, "")
	send(t, conn, counted("<38>"+line+strings.Repeat("A", 3*maxFrame))+counted("<38>"+line+" 2"))
	s.untilN(t, 3)
	assert.EqualValues(t, 1, in.Stats().CutLines)
	assert.Equal(t, "web/syslog-tcp: "+line+" 2", s.lines()[2])
	conn = dial(t, in, "")
	send(t, conn, "<38>"+line) // an address could be cut short at any byte
	require.NoError(t, conn.Close())
	eventually(t, "half frame", func() bool { return in.Stats().HalfFrames == 1 })
	assert.Len(t, s.lines(), 3)
}

func TestSlowloris(t *testing.T) {
	t.Parallel()
	s := newStream()
	in, _ := launch(t, s, func(o *Options) { o.FrameTimeout, o.FirstTimeout = 150*time.Millisecond, 150*time.Millisecond })
	silent, slow, good := dial(t, in, ""), dial(t, in, ""), dial(t, in, "")
	send(t, good, "<38>"+line+"\n")
	begun := time.Now()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // a byte now and then does not help
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := slow.Write([]byte("x")); err != nil {
					return
				}
			case <-stop:
				return
			}
		}
	}()
	closed(t, silent)
	closed(t, slow)
	assert.Less(t, time.Since(begun), 5*time.Second)
	eventually(t, "counts", func() bool { return in.Stats().SlowFrames == 1 && in.Stats().Idle == 1 })
	send(t, good, "<38>"+line+"\n") // idle between frames is no offence
	s.untilN(t, 2)
}

// TestManyConnections: 10,000 connections leave us within our bounds, and another sender is still heard.
func TestManyConnections(t *testing.T) {
	s := newStream()
	in, _ := launch(t, s, func(o *Options) { o.MaxPerSender = 500 })
	tcp, _ := in.Addresses()
	var kept []net.Conn
	for range 10_000 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", tcp[0].String())
		require.NoError(t, err)
		kept = append(kept, conn)
		if len(kept) > 2000 { // the descriptors of a process are bounded as well
			require.NoError(t, kept[len(kept)-1001].Close())
			kept = append(kept[:len(kept)-1001], kept[len(kept)-1000:]...)
		}
	}
	defer func() {
		for _, c := range kept {
			_ = c.Close()
		}
	}()
	eventually(t, "all dealt with", func() bool {
		st := in.Stats()
		return st.Accepted+st.RefusedSender == 10_000
	})
	st := in.Stats()
	assert.LessOrEqual(t, st.Connections, int64(500))
	assert.GreaterOrEqual(t, st.RefusedSender, int64(9_000))
	conn := dial(t, in, "127.0.0.2")
	send(t, conn, "<38>Nov 22 18:00:00 db sshd[1]: heard\n")
	s.untilN(t, 1)
}

func TestLimitInTotal(t *testing.T) {
	t.Parallel()
	in, _ := launch(t, newStream(), func(o *Options) { o.MaxConns = 2 })
	_, second := dial(t, in, ""), dial(t, in, "127.0.0.2")
	third := dial(t, in, "127.0.0.2")
	closed(t, third)
	assert.EqualValues(t, 1, in.Stats().RefusedTotal)
	require.NoError(t, second.Close())
	eventually(t, "place", func() bool { return in.Stats().Connections == 1 })
	dial(t, in, "127.0.0.2")
	eventually(t, "place taken", func() bool { return in.Stats().Connections == 2 })
}

func TestUDP(t *testing.T) {
	t.Parallel()
	s := newStream()
	in, _ := launch(t, s, func(o *Options) { o.TrustUDP = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")} })
	_, udp := in.Addresses()
	from := func(addr string) net.Conn {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(addr)}}
		conn, err := d.DialContext(t.Context(), "udp", udp[0].String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	web, db, other := from("127.0.0.1"), from("127.0.0.2"), from("127.0.0.3")
	send(t, web, "<38>"+line+"\n")
	s.untilN(t, 1)
	send(t, db, "<38>1 - db sshd 1 - - x")
	s.untilN(t, 2)
	send(t, db, "<38>"+line)
	send(t, other, "<38>"+line)
	eventually(t, "refused", func() bool { return in.Stats().Quarantined["other_host"] == 1 && in.Stats().RefusedUnknown == 1 })
	assert.Equal(t, []string{"web/syslog-udp: " + line, "db/syslog-udp: 1 - db sshd 1 - - x"}, s.lines())
	assert.EqualValues(t, 2, in.Stats().UDPLines)
	assert.EqualValues(t, 1, in.Stats().UDPUntrusted)

	s.set(func() { s.gate = make(chan struct{}) })
	eventually(t, "datagrams dropped and counted", func() bool {
		for range 1000 {
			send(t, web, "<38>"+line)
		}
		return in.Stats().UDPDropped > 0
	})
	s.set(func() { close(s.gate) })
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	s := newStream()
	first, _ := launch(t, s, nil)
	tcp, udp := first.Addresses()
	r := newRegistry()
	for name, o := range map[string]Options{"tcp": {ListenTCP: tcp}, "udp": {ListenUDP: udp}} {
		o.HostOf, o.HostByName, o.Publish = r.hostOf, r.hostByName, s.publish
		in, err := New(o)
		require.NoError(t, err)
		err = in.Run(t.Context())
		require.ErrorContains(t, err, "address already in use")
		require.ErrorContains(t, err, "another program has this port: see ss")
		require.ErrorContains(t, err, "syslog.listen_"+name)
	}
	in, err := New(Options{ListenTCP: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:10514")}, HostOf: r.hostOf, HostByName: r.hostByName, Publish: s.publish})
	require.NoError(t, err)
	require.ErrorContains(t, in.Run(t.Context()), "this machine has no such address")
	_, err = New(Options{})
	require.ErrorIs(t, err, errIncomplete)
	_, err = New(Options{Files: []FileSource{{Pattern: "relative"}}, HostOf: r.hostOf, HostByName: r.hostByName, Publish: s.publish})
	require.ErrorContains(t, err, "relative")
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	s := newStream()
	change := func(o *Options) {
		o.StateDir = state
		o.Files = []FileSource{
			{Pattern: filepath.Join(dir, "hosts/%HOST%/auth-%Y-%m-%d.log")},
			{Pattern: filepath.Join(dir, "fixed.log"), Host: "db"},
			{Pattern: filepath.Join(dir, "all.log")},
		}
	}
	today := time.Now().Format("auth-2006-01-02.log")
	in, stop := launch(t, s, change)
	cursors := func() int {
		found, err := filepath.Glob(filepath.Join(state, "cursors", "*"))
		require.NoError(t, err)
		return len(found)
	}
	eventually(t, "first look", func() bool { return cursors() == 3 })
	appendTo(t, filepath.Join(dir, "hosts/web", today), line+"\n")
	s.untilN(t, 1)
	appendTo(t, filepath.Join(dir, "hosts/127.0.0.2", today), strings.Replace(line, "web", "db", 1)+" of db, by its address\n"+line+" forged by db\n")
	s.untilN(t, 2)
	appendTo(t, filepath.Join(dir, "hosts/stranger", today), line+"\n")
	eventually(t, "stranger", func() bool { return in.Stats().Quarantined["unknown_host"] == 1 })
	appendTo(t, filepath.Join(dir, "fixed.log"), "<38>no header at all\n")
	s.untilN(t, 3)
	appendTo(t, filepath.Join(dir, "all.log"), line+"\nNov 22 18:00:00 db sshd[1]: 2\nNov 22 18:00:00 stranger x: 3\n"+line+" 4\n")
	s.untilN(t, 6)
	got := s.lines()
	assert.Equal(t, []string{"web/file: " + line, "db/file: " + strings.Replace(line, "web", "db", 1) + " of db, by its address", "db/file: no header at all"}, got[:3])
	assert.EqualValues(t, 1, in.QuarantinedOf("db"), "a line in db's file that names web")
	assert.Equal(t, []string{"web/file: " + line, "web/file: " + line + " 4", "db/file: Nov 22 18:00:00 db sshd[1]: 2"}, got[3:6])
	stop()
	appendTo(t, filepath.Join(dir, "all.log"), line+" while away\n")
	launch(t, s, change)
	s.untilN(t, 7)
	assert.Equal(t, "web/file: "+line+" while away", s.lines()[6])
	assert.Positive(t, in.Stats().Files.Lines)
}

// TestLatency measures from the sender's write to the hand-over.
func TestLatency(t *testing.T) {
	s := newStream()
	in, _ := launch(t, s, nil)
	conn := dial(t, in, "")
	const n = 300
	worst := time.Duration(0)
	var sum time.Duration
	for i := range n {
		begun := time.Now()
		send(t, conn, "<38>"+line+"\n")
		s.untilN(t, i+1)
		s.mu.Lock()
		took := s.at[i].Sub(begun)
		s.mu.Unlock()
		sum += took
		worst = max(worst, took)
	}
	t.Logf("write to hand-over: mean %v, worst %v", sum/n, worst)
	assert.Less(t, sum/n, 5*time.Millisecond)
}

// TestFilesByWildcards: every file that matches is followed, and each line says whose it is.
func TestFilesByWildcards(t *testing.T) {
	t.Parallel()
	dir, s := t.TempDir(), newStream()
	in, _ := launch(t, s, func(o *Options) {
		o.Poll = 5 * time.Millisecond
		o.Files = []FileSource{{Pattern: filepath.Join(dir, "remote/*/auth.log")}, {Pattern: filepath.Join(dir, "web[0-9]/*.log"), Host: "web"}}
	})
	eventually(t, "both are missing", func() bool { return len(in.Findings()) == 2 })
	appendTo(t, filepath.Join(dir, "remote/a/auth.log"), line+" 1\nNov 22 18:00:00 stranger sshd[1]: x\n")
	appendTo(t, filepath.Join(dir, "remote/b/auth.log"), strings.Replace(line, "web", "db", 1)+" 2\n")
	appendTo(t, filepath.Join(dir, "web7/x.log"), strings.Replace(line, "web", "stranger", 1)+" 3\n")
	s.untilN(t, 3)
	got := s.lines()
	slices.Sort(got)
	assert.Equal(t, []string{
		"db/file: " + strings.Replace(line, "web", "db", 1) + " 2", "web/file: " + strings.Replace(line, "web", "stranger", 1) + " 3", "web/file: " + line + " 1",
	}, got)
	assert.EqualValues(t, 1, in.Stats().Quarantined[reasonUnknownHost])
}
