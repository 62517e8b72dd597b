package honeypot_test

import (
	"bufio"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot"
)

// fill makes the node full: an attacker has its only pot.
func (f *fixture) fill(t *testing.T) event.Lease {
	t.Helper()
	l := f.grant(t, "203.0.113.66/32")
	out, err := f.shell(t.Context(), l.Endpoint, "echo in")
	require.NoError(t, err)
	require.Equal(t, "in\n", out)
	return l
}

// overflowed waits for the end of a session that met something else than a pot, and returns what.
func (f *fixture) overflowed(t *testing.T, l event.Lease) (met string, left []event.Evidence) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, s := range f.bus.ended() {
			left = f.bus.left(s.ID)
			at := slices.IndexFunc(left, func(e event.Evidence) bool { return e.Kind == event.EvidenceOverflow })
			if s.LeaseID == l.ID && at >= 0 && slices.ContainsFunc(left, func(e event.Evidence) bool { return e.Kind == event.EvidenceClosed }) {
				met = left[at].Reason
				return true
			}
		}
		return false
	}, time.Minute, 20*time.Millisecond)
	return met, left
}

// Whoever speaks SSH otherwise: the attacker for whom there is no pot meets a server that lets nobody in, until there is room.
func TestOverflowLetsNobodyInUntilThereIsRoom(t *testing.T) {
	for _, front := range []string{honeypot.FrontBuiltin, honeypot.FrontOpenSSH} {
		t.Run(front, func(t *testing.T) {
			f := newFixture(t)
			f.opts.MaxPots, f.opts.SSH.Front, f.opts.KeepPots = 1, front, time.Hour
			n, _ := f.run(t)
			first := f.fill(t)
			second := f.grant(t, "203.0.113.67/32")
			_, err := f.shell(t.Context(), second.Endpoint, "true")
			require.ErrorContains(t, err, "unable to authenticate")
			met, left := f.overflowed(t, second)
			assert.Equal(t, honeypot.OverflowBuiltin, met)
			guesses := 0
			for _, e := range left {
				if e.Login != nil {
					guesses++
					assert.False(t, e.Login.Success)
					assert.Equal(t, "node full", e.Reason)
				}
			}
			assert.Equal(t, 2, guesses)
			assert.Equal(t, honeypot.OverflowCounts{Builtin: 1}, n.Stats().Overflow)
			assert.True(t, slices.ContainsFunc(n.Findings(), func(f event.Finding) bool { return f.Subject == "overflow" }))

			_, err = f.shell(t.Context(), first.Endpoint, "true")
			require.NoError(t, err, "who has a pot gets into it")
			f.release(t, first)
			require.Eventually(t, func() bool { return n.Stats().Open == 0 }, time.Minute, 5*time.Millisecond)
			out, err := f.shell(t.Context(), second.Endpoint, "echo in")
			require.NoError(t, err, "no guess counted while there was no room")
			assert.Equal(t, "in\n", out)
		})
	}
}

func TestOverflowThatTakesItsTime(t *testing.T) {
	f := newFixture(t)
	f.opts.MaxPots, f.opts.Overflow = 1, honeypot.OverflowTarpit
	n, _ := f.run(t)
	first := f.fill(t)
	second := f.grant(t, "203.0.113.67/32")
	conn, err := f.dial(t.Context(), second.Endpoint)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // a test's connection
	_, err = io.WriteString(conn, "SSH-2.0-Go\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	assert.False(t, strings.HasPrefix(line, "SSH-"), line)
	assert.Equal(t, honeypot.OverflowCounts{Tarpit: 1, Held: 1}, n.Stats().Overflow)
	_, err = f.shell(t.Context(), first.Endpoint, "true")
	require.NoError(t, err, "who has a pot gets into it")
	f.release(t, second)
	met, left := f.overflowed(t, second)
	assert.Equal(t, honeypot.OverflowTarpit, met)
	assert.True(t, slices.ContainsFunc(left, func(e event.Evidence) bool { return e.Client != nil && e.Client.Version == "SSH-2.0-Go" }))
	assert.Zero(t, n.Stats().Overflow.Held)
}

func TestOverflowThatCloses(t *testing.T) {
	f := newFixture(t)
	f.opts.MaxPots, f.opts.Overflow = 1, honeypot.OverflowDrop
	n, _ := f.run(t)
	first := f.fill(t)
	for i, service := range []event.Service{event.SSH, event.Redis} {
		l := f.grantService(t, "203.0.113.67/32", service)
		conn, err := f.dial(t.Context(), l.Endpoint)
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, service)
		require.NoError(t, conn.Close())
		met, _ := f.overflowed(t, l)
		assert.Equal(t, honeypot.OverflowDrop, met)
		assert.Equal(t, honeypot.OverflowCounts{Drop: uint64(i + 1)}, n.Stats().Overflow)
	}
	_, err := f.shell(t.Context(), first.Endpoint, "true")
	require.NoError(t, err, "who has a pot gets into it")
}

// What nothing but a pot speaks takes its time, with the builtin front, too.
func TestOverflowOfWhatOnlyAPotSpeaks(t *testing.T) {
	for _, kind := range []string{honeypot.OverflowBuiltin, honeypot.OverflowTarpit} {
		t.Run(kind, func(t *testing.T) {
			f := newFixture(t)
			f.opts.MaxPots, f.opts.Overflow = 1, kind
			n, _ := f.run(t)
			f.fill(t)
			l := f.grantService(t, "203.0.113.67/32", event.Redis)
			conn, err := f.dial(t.Context(), l.Endpoint)
			require.NoError(t, err)
			_, err = io.WriteString(conn, "PING\r\n")
			require.NoError(t, err)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Second)))
			_, err = conn.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			assert.Equal(t, honeypot.OverflowCounts{Tarpit: 1, Held: 1}, n.Stats().Overflow)
			require.NoError(t, conn.(*net.TCPConn).Close())
			met, _ := f.overflowed(t, l)
			assert.Equal(t, honeypot.OverflowTarpit, met)
		})
	}
}

func TestOverflowThatThereIsNot(t *testing.T) {
	f := newFixture(t)
	f.opts.Overflow = "host"
	_, err := honeypot.New(f.opts)
	require.EqualError(t, err, `overflow: "host"; it has to be builtin, tarpit or drop`)
}
