package server

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/loggen"
)

// BenchmarkLiveRoad measures how fast lines go by TCP syslog over the bus, stored on disk, into the detector: a real server, and
// a sender over loopback that sends as fast as the server takes. What the detector counts must be what was sent.
func BenchmarkLiveRoad(b *testing.B) {
	const lines = 1_000_000
	var log bytes.Buffer
	truth, err := loggen.Write(&log, loggen.Options{Lines: lines, OpenSSH: 9, Begin: time.Now().Add(-6 * time.Hour)})
	require.NoError(b, err)
	sent := withPriority(log.Bytes())
	b.ResetTimer()
	var took []time.Duration
	var spent time.Duration
	for b.Loop() {
		t, cpu := liveRoad(b, sent, truth)
		took, spent = append(took, t), spent+cpu
	}
	slices.Sort(took)
	perSecond := lines / took[len(took)/2].Seconds()
	b.ReportMetric(perSecond, "lines/s")
	b.ReportMetric(spent.Seconds()/float64(b.N), "cpu-s/Mlines")
	if perSecond < 300_000 {
		b.Errorf("%.0f lines/s at the median of %v, %v of processor time each; the bound is 300,000", perSecond, took, spent/time.Duration(b.N))
	}
}

// withPriority is a log as rsyslog sends it.
func withPriority(log []byte) []byte {
	return append([]byte("<38>"), bytes.TrimSuffix(bytes.ReplaceAll(log, []byte{'\n'}, []byte("\n<38>")), []byte("<38>"))...)
}

// liveRoad sends a log to a new server, and returns how long it took until the detector had it, and the processor time of sender and server.
func liveRoad(b *testing.B, log []byte, truth loggen.Truth) (took, spent time.Duration) {
	b.Helper()
	dir := b.TempDir()
	c := config.Server{Common: config.Common{StateDir: dir, Socket: filepath.Join(dir, "server.sock")}}
	c.Bus.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	c.Bus.LogBudget, c.ExemptDays, c.KeepDays, c.Breaker.SourcesPerHour = 1<<30, 30, 90, 100
	c.Syslog.ListenTCP = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	c.Hosts = []config.HostInfo{{Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}}
	ctx, stop := context.WithCancel(b.Context())
	ready, ended := make(chan *Server, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Config: c, Version: "bench", Log: slog.New(slog.DiscardHandler), Ready: func(s *Server) { ready <- s }})
	}()
	var s *Server
	select {
	case s = <-ready:
	case err := <-ended:
		stop()
		require.NoError(b, err)
	}
	defer func() {
		stop()
		require.NoError(b, <-ended)
	}()
	var to netip.AddrPort
	require.Eventually(b, func() bool {
		tcp, _ := s.intake.Addresses()
		if len(tcp) > 0 {
			to = tcp[0]
		}
		return len(tcp) > 0
	}, time.Minute, time.Millisecond)
	conn, err := net.Dial("tcp", to.String())
	require.NoError(b, err)
	begin, before := time.Now(), processorTime(b)
	_, err = conn.Write(log)
	require.NoError(b, err)
	require.NoError(b, conn.Close())
	require.Eventually(b, func() bool { return s.counters.snapshot()["lines"]["syslog-tcp"] >= int64(truth.Lines) }, 5*time.Minute, time.Millisecond)
	took, spent = time.Since(begin), processorTime(b)-before
	counted, in := s.counters.snapshot(), s.intake.Stats()
	require.EqualValues(b, truth.Lines, counted["lines"]["syslog-tcp"])
	require.EqualValues(b, truth.Lines, in.Lines)
	require.Zero(b, in.Retries+in.CutLines+in.BadFrames+in.LostAtStop+in.HalfFrames)
	require.Empty(b, in.Quarantined)
	require.EqualValues(b, truth.Logins, counted["events"]["auth_ok"])
	require.EqualValues(b, truth.Guesses, counted["guesses"]["ssh"])
	return took, spent
}

// processorTime is what this process has used of it.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
