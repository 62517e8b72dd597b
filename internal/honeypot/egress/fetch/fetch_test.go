package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/honeypot/egress/fetch"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a machine of ours, and the internet behind it: servers at public addresses, in namespaces.
type site struct {
	node, web *netns.NS
	names     sync.Map // of name to []netip.Addr
	client    *fetch.Client
	hits      atomic.Int64 // requests that reached any server
	last      atomic.Pointer[http.Request]
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func newSite(t *testing.T, change func(*fetch.Options)) *site {
	t.Helper()
	s := &site{}
	nodeName, webName := pottest.Name(t, "kkfn"), pottest.Name(t, "kkfw")
	for name, ns := range map[string]**netns.NS{nodeName: &s.node, webName: &s.web} {
		opened, err := netns.Ensure(name)
		require.NoError(t, err)
		*ns = opened
		t.Cleanup(func() {
			assert.NoError(t, opened.Close())
			assert.NoError(t, netns.Delete(name))
		})
		pottest.Run(t, "ip", "-n", name, "link", "set", "lo", "up")
	}
	pottest.Run(t, "ip", "-n", nodeName, "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", webName)
	for _, c := range []string{
		"-n " + nodeName + " addr add 51.15.200.1/30 dev out", "-n " + nodeName + " addr add 2a03:b0c0:1::1/64 dev out nodad",
		"-n " + webName + " addr add 51.15.200.2/30 dev in", "-n " + webName + " addr add 2a03:b0c0:1::2/64 dev in nodad",
		"-n " + nodeName + " link set out up", "-n " + webName + " link set in up",
		"-n " + nodeName + " route add default via 51.15.200.2", "-n " + nodeName + " -6 route add default via 2a03:b0c0:1::2",
		// The web's machine has every address that anybody could mean.
		"-n " + webName + " route add local 0.0.0.0/0 dev lo table main", "-n " + webName + " -6 route add local ::/0 dev lo table main",
	} {
		pottest.Run(t, "ip", strings.Fields(c)...)
	}
	for _, port := range []uint16{80, 8081} {
		for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			l, err := s.web.ListenTCP(netip.AddrPortFrom(any, port))
			require.NoError(t, err)
			s.serve(t, l)
		}
	}
	client, end, err := fetch.Pair()
	require.NoError(t, err)
	o := fetch.Options{
		Policy: fetch.Policy{Own: func() ([]netip.Prefix, error) {
			return []netip.Prefix{netip.MustParsePrefix("51.15.200.0/30"), netip.MustParsePrefix("45.76.1.0/24"), netip.MustParsePrefix("2a03:b0c0:1::/64")}, nil
		}, Forbid: []netip.Prefix{netip.MustParsePrefix("91.92.240.0/24")}},
		Dir: t.TempDir(), NetNS: s.node, PerMinute: 1000, AllPerMinute: 1000,
		Resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
			if a, ok := s.names.Load(name); ok {
				return a.([]netip.Addr), nil
			}
			return nil, errors.New("no such name")
		},
	}
	if change != nil {
		change(&o)
	}
	p := fetch.New(o)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan struct{})
	go func() { p.Serve(ctx, end); close(served) }()
	s.client = fetch.NewClient(client)
	t.Cleanup(func() {
		assert.NoError(t, s.client.Close())
		cancel()
		<-served
	})
	return s
}

func (s *site) serve(t *testing.T, l net.Listener) {
	t.Helper()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.hits.Add(1)
		s.last.Store(r)
		switch r.URL.Path {
		case "/inwards":
			http.Redirect(w, r, "http://127.0.0.1/secret", http.StatusFound)
		case "/large":
			_, _ = io.Copy(w, io.LimitReader(zeros{}, 64<<20)) // the client stops
		case "/slow":
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		default:
			_, _ = fmt.Fprintf(w, "#!/bin/sh\n# %s%s\n", r.Host, r.URL)
		}
	})}
	done := make(chan struct{})
	go func() { _ = srv.Serve(l); close(done) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func want(name, target string) fetch.Request {
	return fetch.Request{Attacker: netip.MustParsePrefix("203.0.113.66/32"), Method: "GET", Name: name, Port: 80, Target: target, Agent: "Wget/1.21"}
}

func (s *site) do(t *testing.T, r fetch.Request) (fetch.Reply, string) {
	t.Helper()
	reply, body, err := s.client.Do(t.Context(), r)
	require.NoError(t, err)
	if body == nil {
		return reply, ""
	}
	defer body.Close() //nolint:errcheck // a test's file
	data, err := io.ReadAll(io.NewSectionReader(body, 0, reply.Size))
	require.NoError(t, err)
	return reply, string(data)
}

func TestWhatIsOutsideIsFetched(t *testing.T) {
	s := newSite(t, nil)
	s.names.Store("evil.example.com", []netip.Addr{addr("45.32.1.2")})
	s.names.Store("six.example.com", []netip.Addr{addr("2a01:4f8::7")})
	for _, c := range []struct {
		r    fetch.Request
		body string
	}{
		{want("evil.example.com", "/x.sh?a=1"), "#!/bin/sh\n# evil.example.com/x.sh?a=1\n"},
		{want("six.example.com", "/x.sh"), "#!/bin/sh\n# six.example.com/x.sh\n"},
		{fetch.Request{Method: "GET", Addr: addr("45.32.1.2"), Port: 8081, Target: "/bins/arm7"}, "#!/bin/sh\n# 45.32.1.2:8081/bins/arm7\n"},
		{fetch.Request{Method: "GET", Addr: addr("2a01:4f8::7"), Port: 80, Target: "/"}, "#!/bin/sh\n# [2a01:4f8::7]/\n"},
	} {
		reply, body := s.do(t, c.r)
		assert.Empty(t, reply.Error)
		assert.Equal(t, 200, reply.Status)
		assert.Equal(t, c.body, body)
	}
	reply, body := s.do(t, fetch.Request{Method: "HEAD", Name: "evil.example.com", Port: 80, Target: "/x"})
	assert.Equal(t, 200, reply.Status)
	assert.Empty(t, body)
}

// Of what a client says only what is plain goes out.
func TestNothingOfAnAttackersGoesOut(t *testing.T) {
	s := newSite(t, nil)
	s.names.Store("evil.example.com", []netip.Addr{addr("45.32.1.2")})
	r := want("evil.example.com", "/x")
	r.Agent = "${jndi:ldap://victim/a}"
	reply, _ := s.do(t, r)
	require.Empty(t, reply.Error)
	got := s.last.Load()
	assert.Equal(t, "curl/7.88.1", got.UserAgent())
	for name := range got.Header {
		assert.Contains(t, []string{"User-Agent", "Accept", "Connection"}, name)
	}
	s.hits.Store(0)
	for _, change := range []func(*fetch.Request){
		func(r *fetch.Request) { r.Method = "POST" },
		func(r *fetch.Request) { r.Method = "GET / HTTP/1.1\r\nX: y\r\n\r\nGET" },
		func(r *fetch.Request) { r.Target = "/cgi-bin/.%2e/bin/sh" },
		func(r *fetch.Request) { r.Target = "/a/../../etc/passwd" },
		func(r *fetch.Request) { r.Target = "/x\r\nHost: other" },
		func(r *fetch.Request) { r.Target = "/?q=' or 1=1" },
		func(r *fetch.Request) { r.Target = "/${jndi:x}" },
		func(r *fetch.Request) { r.Target = "/" + strings.Repeat("a", 2000) },
		func(r *fetch.Request) { r.Target = "*" },
		func(r *fetch.Request) { r.Port = 25 },
		func(r *fetch.Request) { r.Port = 6379 },
		func(r *fetch.Request) { r.Name = "evil.example.com/x" },
		func(r *fetch.Request) { r.Name = "localhost" },
		func(r *fetch.Request) { r.Name = "127.0.0.1" },
		func(r *fetch.Request) { r.Name = "2130706433" },
		func(r *fetch.Request) { r.Name = "a@b.com" },
		func(r *fetch.Request) { r.Name = "" },
	} {
		r := want("evil.example.com", "/x")
		change(&r)
		reply, _ := s.do(t, r)
		assert.True(t, reply.Refused, "%+v: %s", r, reply.Error)
	}
	assert.Zero(t, s.hits.Load())
}

// Inwards nothing goes, by whatever name or form of an address, and there is somebody who would answer.
func TestNothingGoesInwards(t *testing.T) {
	s := newSite(t, nil)
	for _, a := range []string{
		"0.0.0.0", "10.1.2.3", "100.64.1.1", "100.100.100.200", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1", "172.31.0.1",
		"192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.20", "203.0.113.10", "224.0.0.1", "239.1.1.1",
		"240.0.0.1", "255.255.255.255", "168.63.129.16", "51.15.200.1", "51.15.200.2", "45.76.1.9", "91.92.240.7",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:45.32.1.2", "::127.0.0.1", "64:ff9b::a00:1", "64:ff9b::2d20:102", "64:ff9b:1::1", "2002:7f00:1::1",
		"2001::1", "2001:0:7f00:1::", "2001:db8::1", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "5f00::1",
		"2a03:b0c0:1::1", "2a03:b0c0:1::2", "fe80::1%out",
	} {
		reply, _ := s.do(t, fetch.Request{Method: "GET", Addr: addr(a), Port: 80, Target: "/"})
		assert.True(t, reply.Refused, "%s: %+v", a, reply)
		s.names.Store("evil.example.com", []netip.Addr{addr("45.32.1.2"), addr(a)}) // one of both leads inwards
		if a == "::ffff:45.32.1.2" {
			continue // a resolver's form of an IPv4 address
		}
		reply, _ = s.do(t, want("evil.example.com", "/"))
		assert.True(t, reply.Refused, "a name with %s: %+v", a, reply)
	}
	assert.Zero(t, s.hits.Load())
}

func TestUnknownOwnAddressesStopEverything(t *testing.T) {
	s := newSite(t, func(o *fetch.Options) {
		o.Policy.Own = func() ([]netip.Prefix, error) { return nil, errors.New("not heard yet") }
	})
	reply, _ := s.do(t, fetch.Request{Method: "GET", Addr: addr("45.32.1.2"), Port: 80, Target: "/"})
	assert.True(t, reply.Refused)
	assert.Zero(t, s.hits.Load())
}

// A name whose addresses change between two looks leads nowhere else: it is looked up once.
func TestRebinding(t *testing.T) {
	var looks atomic.Int64
	s := newSite(t, func(o *fetch.Options) {
		o.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			if looks.Add(1) == 1 {
				return []netip.Addr{addr("45.32.1.2")}, nil
			}
			return []netip.Addr{addr("127.0.0.1")}, nil
		}
	})
	reply, _ := s.do(t, want("evil.example.com", "/"))
	assert.Equal(t, 200, reply.Status)
	assert.Equal(t, int64(1), looks.Load())
	reply, _ = s.do(t, want("evil.example.com", "/"))
	assert.True(t, reply.Refused)
	assert.Equal(t, int64(1), s.hits.Load())
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	s := newSite(t, nil)
	s.names.Store("evil.example.com", []netip.Addr{addr("45.32.1.2")})
	reply, _ := s.do(t, want("evil.example.com", "/inwards"))
	assert.Equal(t, 302, reply.Status)
	assert.Contains(t, reply.Headers, fetch.Header{Name: "Location", Value: "http://127.0.0.1/secret"})
	assert.Equal(t, int64(1), s.hits.Load())
}

func TestSizesAreBounded(t *testing.T) {
	s := newSite(t, func(o *fetch.Options) { o.MaxSize = 1 << 20 })
	s.names.Store("evil.example.com", []netip.Addr{addr("45.32.1.2")})
	reply, body := s.do(t, want("evil.example.com", "/large"))
	assert.True(t, reply.Truncated)
	assert.Equal(t, int64(1<<20), reply.Size)
	assert.Equal(t, bytes.Repeat([]byte{0}, 1<<20), []byte(body))
}

func TestRatesAreBounded(t *testing.T) {
	s := newSite(t, func(o *fetch.Options) { o.PerMinute, o.AllPerMinute = 2, 3 })
	s.names.Store("evil.example.com", []netip.Addr{addr("45.32.1.2")})
	var refused []bool
	for _, attacker := range []string{"203.0.113.1/32", "203.0.113.1/32", "203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32"} {
		r := want("evil.example.com", "/")
		r.Attacker = netip.MustParsePrefix(attacker)
		reply, _ := s.do(t, r)
		refused = append(refused, reply.Refused)
	}
	assert.Equal(t, []bool{false, false, true, false, true}, refused)
	assert.Equal(t, int64(3), s.hits.Load())
}

// Who asks may stop waiting, and the proxy may go: nobody hangs, and no file stays open.
func TestNobodyHangs(t *testing.T) {
	s := newSite(t, nil)
	s.names.Store("evil.example.com", []netip.Addr{addr("45.32.1.2")})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, _, err := s.client.Do(ctx, want("evil.example.com", "/slow"))
		ended <- err
	}()
	require.Eventually(t, func() bool { return s.hits.Load() == 1 }, time.Minute, 5*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	before, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for range 20 {
		s.do(t, want("evil.example.com", "/x"))
	}
	after, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	assert.Less(t, len(after)-len(before), 15)
}
