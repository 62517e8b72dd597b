package fronttest

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Idle measures what connections hold in memory that have said something, are answered and then say nothing: in KiB each, with both ends of
// both connections in one process; 10,000 of them, or as many as the process may open.
func Idle(b *testing.B, f Front) {
	b.Helper()
	s := f.site(b, echo, 0)
	var files unix.Rlimit
	require.NoError(b, unix.Getrlimit(unix.RLIMIT_NOFILE, &files))
	const each, other = 5, 500 // descriptors: four ends and a recording; what the process has besides
	many := int(min(10_000, (files.Cur-other)/each))
	for b.Loop() {
		conns := make([]net.Conn, 0, many)
		before := Held()
		for range many {
			var d net.Dialer
			c, err := d.DialContext(b.Context(), "tcp", s.Address)
			require.NoError(b, err)
			conns = append(conns, c)
			_, err = io.WriteString(c, f.Says)
			require.NoError(b, err)
			require.NoError(b, c.SetReadDeadline(time.Now().Add(time.Minute)))
			_, err = c.Read(make([]byte, 1))
			require.NoError(b, err)
		}
		b.ReportMetric(float64(Held()-before)/float64(many)/1024, "KiB/connection")
		b.ReportMetric(float64(many), "connections")
		for _, c := range conns {
			_ = c.Close()
		}
		require.Eventually(b, func() bool { return s.Open() == 0 }, time.Minute, 10*time.Millisecond)
	}
}

// echo is a pot's service that says what it is told, with no more than a small buffer.
func echo(c net.Conn) {
	buf := make([]byte, 256)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}
