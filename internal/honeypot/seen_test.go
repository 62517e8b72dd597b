package honeypot_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/watch"
)

// executed finds a program among what a session left.
func executed(left []event.Evidence, args ...string) *event.Execution {
	for _, e := range left {
		if e.Execution == nil {
			continue
		}
		if have := slices.Collect(func(yield func(string) bool) {
			for _, a := range e.Execution.Args {
				if !yield(string(a)) {
					return
				}
			}
		}); slices.Equal(have, args) {
			return e.Execution
		}
	}
	return nil
}

// Of a script that fetches, drops, runs and deletes, everything is evidence of the session that ran it, also its last
// command's end.
func TestWhatRunsInAPotIsEvidenceOfItsSession(t *testing.T) {
	for _, mode := range []watch.Mode{watch.EBPF, watch.Polling} {
		t.Run(string(mode), func(t *testing.T) {
			f := newFixture(t)
			f.opts.Watch = mode
			n, _ := f.run(t)
			l := f.grant(t, "203.0.113.66/32")
			out, err := f.shell(t.Context(), l.Endpoint, `printf '#!/bin/sh\nsleep 0.4\necho done\n' >/tmp/x; chmod +x /tmp/x; /tmp/x; rm /tmp/x; exit 7`)
			require.Error(t, err, "it exits with 7")
			assert.Equal(t, "done\n", out)
			var s event.Session
			require.Eventually(t, func() bool {
				ended := f.bus.ended()
				if len(ended) != 1 {
					return false
				}
				s = ended[0]
				return s.Evidence > 0 && len(f.bus.left(s.ID)) == s.Evidence
			}, time.Minute, 10*time.Millisecond)
			left := f.bus.left(s.ID)
			x := executed(left, "/bin/sh", "/tmp/x")
			require.NotNil(t, x, "%+v", left)
			assert.Equal(t, event.Bytes("/tmp/x"), x.Script)
			require.NotNil(t, x.File)
			assert.NotEmpty(t, x.File.SHA256)
			assert.NotNil(t, executed(left, "sleep", "0.4"))
			if mode == watch.EBPF {
				assert.NotNil(t, executed(left, "rm", "/tmp/x").Exit)
				assert.GreaterOrEqual(t, x.Lasted, 400*time.Millisecond)
			}
			written := slices.IndexFunc(left, func(e event.Evidence) bool { return e.Write != nil && e.Write.Path == "/tmp/x" })
			require.GreaterOrEqual(t, written, 0)
			assert.Equal(t, x.File.SHA256, left[written].Write.File.SHA256)
			assert.Positive(t, s.Executed)
			reply := f.bus.serveEvidence(t.Context(), event.EvidenceRequest{SHA256: x.File.SHA256})
			require.Empty(t, reply.Error)
			assert.True(t, strings.HasPrefix(string(reply.Data), "#!/bin/sh\n"))
			assert.Equal(t, event.EvidenceClosed, left[len(left)-1].Kind)
			assert.Equal(t, mode == watch.Polling, slices.ContainsFunc(n.Findings(), func(f event.Finding) bool { return f.Subject == "programs in pots" }), "it says that it polls")
		})
	}
}

// What goes on when the attacker has left is evidence of a session of the pot's own, and so is it after the node was
// started anew.
func TestWhatRunsWhenNobodyIsThere(t *testing.T) {
	f := newFixture(t)
	_, stop := f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	_, err := f.shell(t.Context(), l.Endpoint, `nohup sh -c 'while :; do sleep 0.5; /bin/echo beacon >/tmp/beacon; done' >/dev/null 2>&1 &`)
	require.NoError(t, err)
	beacons := func() (s event.Session, n int) {
		f.bus.mu.Lock()
		defer f.bus.mu.Unlock()
		for id, left := range f.bus.evidence {
			if f.bus.sessions[id].Service != event.ServicePot {
				continue
			}
			for _, e := range left {
				if e.Execution != nil && e.Execution.Path == "/usr/bin/echo" {
					s, n = f.bus.sessions[id], n+1
				}
			}
		}
		return s, n
	}
	require.Eventually(t, func() bool { _, n := beacons(); return n >= 2 }, time.Minute, 10*time.Millisecond)
	s, before := beacons()
	assert.Equal(t, l.Attacker, s.Attacker)
	assert.NotEmpty(t, s.PotID)
	stop()
	_, _ = f.run(t)
	require.Eventually(t, func() bool { _, n := beacons(); return n > before+1 }, time.Minute, 10*time.Millisecond)
}
