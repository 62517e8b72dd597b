package pool_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newBook(t *testing.T, change func(*pool.BookOptions)) (*pool.Book, *clock) {
	t.Helper()
	c := &clock{now: time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)}
	o := pool.BookOptions{
		Node:      "node",
		Advertise: []netip.Addr{netip.MustParseAddr("198.51.100.20"), netip.MustParseAddr("2001:db8:2::20")},
		File:      filepath.Join(t.TempDir(), "leases.json"),
		Now:       c.Now,
	}
	if change != nil {
		change(&o)
	}
	b, err := pool.NewBook(o)
	require.NoError(t, err)
	return b, c
}

func request(c *clock, attacker, host string) event.LeaseRequest {
	return event.LeaseRequest{
		Op: "grant", Attacker: netip.MustParsePrefix(attacker), Host: host, Service: event.SSH,
		Seen: []netip.Addr{
			netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("::ffff:198.51.100.11"),
			netip.MustParseAddr("2001:db8:2::10"),
		},
		Expires: c.now.Add(24 * time.Hour),
	}
}

func TestSameAttackerHostAndServiceGetTheSameLease(t *testing.T) {
	b, c := newBook(t, nil)
	req := request(c, "203.0.113.66/32", "web")
	first, err := b.Grant(req)
	require.NoError(t, err)
	assert.Equal(t, "198.51.100.20:20000", first.Endpoint.String())
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("198.51.100.11")}, first.Seen)

	req.Expires = req.Expires.Add(time.Hour)
	second, err := b.Grant(req)
	require.NoError(t, err)
	assert.Equal(t, first.ID, second.ID)
	assert.Equal(t, first.Endpoint, second.Endpoint)
	assert.Equal(t, req.Expires, second.Expires)

	req.Expires = req.Expires.Add(-2 * time.Hour)
	third, err := b.Grant(req)
	require.NoError(t, err)
	assert.Equal(t, second.Expires, third.Expires, "never an earlier expiry")

	other, err := b.Grant(request(c, "203.0.113.67/32", "web"))
	require.NoError(t, err)
	assert.NotEqual(t, first.Endpoint, other.Endpoint)
}

func TestLookupNeedsTheRightAddressAndPort(t *testing.T) {
	b, c := newBook(t, nil)
	l, err := b.Grant(request(c, "203.0.113.66/32", "web"))
	require.NoError(t, err)
	for peer, want := range map[string]bool{
		"198.51.100.10": true, "198.51.100.11": true, "::ffff:198.51.100.10": true,
		"198.51.100.12": false, "2001:db8:2::10": false, "203.0.113.66": false,
	} {
		got, ok := b.Lookup(netip.MustParseAddr(peer), l.Endpoint.Port())
		assert.Equal(t, want, ok, peer)
		if ok {
			assert.Equal(t, l.ID, got.ID)
		}
	}
	_, ok := b.Lookup(netip.MustParseAddr("198.51.100.10"), l.Endpoint.Port()+1)
	assert.False(t, ok)
	c.now = l.Expires
	_, ok = b.Lookup(netip.MustParseAddr("198.51.100.10"), l.Endpoint.Port())
	assert.False(t, ok, "expired")
}

func TestEndpointIsOfTheAttackersFamily(t *testing.T) {
	b, c := newBook(t, nil)
	l, err := b.Grant(request(c, "2001:db8:1:66::/64", "web"))
	require.NoError(t, err)
	assert.Equal(t, "[2001:db8:2::20]:20000", l.Endpoint.String())
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("2001:db8:2::10")}, l.Seen)

	only4, c := newBook(t, func(o *pool.BookOptions) { o.Advertise = o.Advertise[:1] })
	_, err = only4.Grant(request(c, "2001:db8:1:66::/64", "web"))
	require.ErrorIs(t, err, pool.ErrNoRoute)
	req := request(c, "203.0.113.66/32", "web")
	req.Seen = req.Seen[2:]
	_, err = only4.Grant(req)
	require.ErrorIs(t, err, pool.ErrNoRoute)
}

func TestHostOnTheSameMachineIsSeenByTheAttackersAddress(t *testing.T) {
	b, c := newBook(t, func(o *pool.BookOptions) {
		o.IsLocal = func(a netip.Addr) bool { return a == netip.MustParseAddr("2001:db8:2::10") }
	})
	l, err := b.Grant(request(c, "2001:db8:1:66::/64", "web"))
	require.NoError(t, err)
	_, ok := b.Lookup(netip.MustParseAddr("2001:db8:1:66::5"), l.Endpoint.Port())
	assert.True(t, ok)
	_, ok = b.Lookup(netip.MustParseAddr("2001:db8:1:67::5"), l.Endpoint.Port())
	assert.False(t, ok)
	sources, local := b.Sources(l.ID)
	assert.True(t, local)
	assert.Equal(t, []pool.Source{{Prefix: l.Attacker, Port: l.Endpoint.Port()}}, sources)
}

func TestPortsAreReusedAcrossHostsAndRestAfterRelease(t *testing.T) {
	var ended []event.Lease
	b, c := newBook(t, func(o *pool.BookOptions) {
		o.Ports = pool.Ports{First: 20000, Last: 20001}
		o.Ended = func(l event.Lease) { ended = append(ended, l) }
	})
	first, err := b.Grant(request(c, "203.0.113.1/32", "web"))
	require.NoError(t, err)
	_, err = b.Grant(request(c, "203.0.113.2/32", "web"))
	require.NoError(t, err)
	_, err = b.Grant(request(c, "203.0.113.3/32", "web"))
	require.ErrorIs(t, err, pool.ErrNoPort)

	// Another host is seen by other addresses.
	req := request(c, "203.0.113.1/32", "mail")
	req.Seen = []netip.Addr{netip.MustParseAddr("198.51.100.99")}
	_, err = b.Grant(req)
	require.NoError(t, err)

	released, ok := b.Release(first.Attacker, "web", event.SSH)
	require.True(t, ok)
	assert.Equal(t, first.ID, released.ID)
	require.Len(t, ended, 1)
	_, ok = b.Release(first.Attacker, "web", event.SSH)
	assert.False(t, ok, "twice is no error")
	_, ok = b.Lookup(first.Seen[0], first.Endpoint.Port())
	assert.False(t, ok)

	_, err = b.Grant(request(c, "203.0.113.3/32", "web"))
	require.ErrorIs(t, err, pool.ErrNoPort, "the released port rests")
	c.now = c.now.Add(pool.DefaultQuarantine)
	again, err := b.Grant(request(c, "203.0.113.3/32", "web"))
	require.NoError(t, err)
	assert.Equal(t, first.Endpoint, again.Endpoint)
}

func TestHostWithNewAddressKeepsItsLease(t *testing.T) {
	b, c := newBook(t, nil)
	req := request(c, "203.0.113.66/32", "web")
	first, err := b.Grant(req)
	require.NoError(t, err)
	req.Seen = []netip.Addr{netip.MustParseAddr("198.51.100.44")}
	second, err := b.Grant(req)
	require.NoError(t, err)
	assert.Equal(t, first.ID, second.ID)
	assert.Equal(t, first.Endpoint, second.Endpoint)
	_, ok := b.Lookup(req.Seen[0], second.Endpoint.Port())
	assert.True(t, ok)
	_, ok = b.Lookup(first.Seen[0], first.Endpoint.Port())
	assert.False(t, ok)
}

func TestInvalidRequests(t *testing.T) {
	b, c := newBook(t, nil)
	for name, change := range map[string]func(*event.LeaseRequest){
		"no attacker": func(r *event.LeaseRequest) { r.Attacker = netip.Prefix{} },
		"no host":     func(r *event.LeaseRequest) { r.Host = "" },
		"no service":  func(r *event.LeaseRequest) { r.Service = "" },
		"over":        func(r *event.LeaseRequest) { r.Expires = c.now },
	} {
		req := request(c, "203.0.113.66/32", "web")
		change(&req)
		_, err := b.Grant(req)
		require.ErrorIs(t, err, pool.ErrRequest, name)
	}
	assert.Empty(t, b.Leases())
}

func TestLeasesSurviveARestart(t *testing.T) {
	var file string
	b, c := newBook(t, func(o *pool.BookOptions) { file = o.File })
	l, err := b.Grant(request(c, "203.0.113.66/32", "web"))
	require.NoError(t, err)
	gone, err := b.Grant(request(c, "203.0.113.67/32", "web"))
	require.NoError(t, err)
	b.Release(gone.Attacker, gone.Host, gone.Service)
	require.NoError(t, b.Save())

	again, _ := newBook(t, func(o *pool.BookOptions) { o.File, o.Ports = file, pool.Ports{First: 20000, Last: 20001} })
	require.Equal(t, []event.Lease{l}, again.Leases())
	got, ok := again.Lookup(l.Seen[1], l.Endpoint.Port())
	require.True(t, ok)
	assert.Equal(t, l, got)
	_, err = again.Grant(request(c, "203.0.113.68/32", "web"))
	require.ErrorIs(t, err, pool.ErrNoPort, "the port of the released lease still rests")
	assert.True(t, again.Wanted(event.PotKey{Attacker: l.Attacker, Host: "web"}))
	assert.False(t, again.Wanted(event.PotKey{Attacker: gone.Attacker, Host: "web"}))
}

func TestPotIsWantedForAWhileAfterItsLastLease(t *testing.T) {
	var file string
	keep := func(o *pool.BookOptions) { o.KeepPots = time.Hour }
	b, c := newBook(t, func(o *pool.BookOptions) { keep(o); file = o.File })
	l, err := b.Grant(request(c, "203.0.113.66/32", "web"))
	require.NoError(t, err)
	key := event.PotKey{Attacker: l.Attacker, Host: l.Host}
	b.Release(l.Attacker, l.Host, l.Service)
	assert.True(t, b.Wanted(key))
	require.NoError(t, b.Save())
	b, c = newBook(t, func(o *pool.BookOptions) { keep(o); o.File = file })
	assert.True(t, b.Wanted(key), "after a restart, too")
	c.now = c.now.Add(time.Hour)
	assert.False(t, b.Wanted(key))
}

func TestUnreadableLeasesArePutAside(t *testing.T) {
	var file string
	b, _ := newBook(t, func(o *pool.BookOptions) {
		file = o.File
		require.NoError(t, os.WriteFile(file, []byte("{half a fi"), 0o600))
	})
	assert.Empty(t, b.Leases())
	assert.FileExists(t, file+".broken")
	assert.True(t, b.Wanted(event.PotKey{Host: "web"}), "nothing is removed before the server has told")
}

func TestServersLeasesAreTakenOverAndOthersEnd(t *testing.T) {
	var ended []event.Lease
	b, c := newBook(t, func(o *pool.BookOptions) { o.Ended = func(l event.Lease) { ended = append(ended, l) } })
	old, err := b.Grant(request(c, "203.0.113.66/32", "web"))
	require.NoError(t, err)
	c.now = c.now.Add(10 * time.Minute)
	fresh, err := b.Grant(request(c, "203.0.113.67/32", "web"))
	require.NoError(t, err)

	lost := event.Lease{
		ID: "0123456789ab", Attacker: netip.MustParsePrefix("203.0.113.99/32"), Host: "web", Service: event.SSH,
		Seen:     []netip.Addr{netip.MustParseAddr("198.51.100.10")},
		Endpoint: netip.MustParseAddrPort("198.51.100.20:25000"), Node: "node",
		Created: c.now, Expires: c.now.Add(time.Hour),
	}
	foreign := lost
	foreign.ID, foreign.Endpoint = "ffffffffffff", netip.MustParseAddrPort("198.51.100.21:25000")
	b.Apply([]event.Lease{lost, foreign}, c.now.Add(time.Second))

	require.Len(t, ended, 1)
	assert.Equal(t, old.ID, ended[0].ID, "unknown to the server, and not new")
	got, ok := b.Lookup(lost.Seen[0], 25000)
	require.True(t, ok)
	assert.Equal(t, lost.ID, got.ID)
	assert.Len(t, b.Leases(), 2)
	_, ok = b.Lookup(fresh.Seen[0], fresh.Endpoint.Port())
	assert.True(t, ok, "just granted: the server's answer may be older")

	lost.Expires = c.now.Add(30 * time.Minute)
	c.now = c.now.Add(2 * time.Minute)
	b.Apply([]event.Lease{lost}, c.now)
	got, ok = b.Lookup(lost.Seen[0], 25000)
	require.True(t, ok)
	assert.Equal(t, lost.Expires, got.Expires, "the server's expiry counts")
	assert.Len(t, ended, 2)
}

func TestLeasesExpireAndTheFileFollows(t *testing.T) {
	file := filepath.Join(t.TempDir(), "leases.json")
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan event.Lease, 1)
		b, err := pool.NewBook(pool.BookOptions{
			Node: "node", Advertise: []netip.Addr{netip.MustParseAddr("198.51.100.20")}, File: file,
			Ended: func(l event.Lease) { ended <- l },
		})
		require.NoError(t, err)
		stopped := make(chan error, 1)
		go func() { stopped <- b.Run(t.Context()) }()
		t.Cleanup(func() { require.NoError(t, <-stopped) })
		l, err := b.Grant(event.LeaseRequest{
			Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web", Service: event.SSH,
			Seen: []netip.Addr{netip.MustParseAddr("198.51.100.10")}, Expires: time.Now().Add(time.Minute),
		})
		require.NoError(t, err)
		time.Sleep(time.Second) //nolint:forbidigo // synctest's clock
		synctest.Wait()
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, string(data), l.ID)
		time.Sleep(time.Minute) //nolint:forbidigo // synctest's clock
		require.Equal(t, l.ID, (<-ended).ID)
		require.Empty(t, b.Leases())
	})
}

func TestBookOptionsAreChecked(t *testing.T) {
	_, err := pool.NewBook(pool.BookOptions{Node: "n"})
	require.ErrorContains(t, err, "endpoint addresses")
	_, err = pool.NewBook(pool.BookOptions{Advertise: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Ports: pool.Ports{First: 9, Last: 8}})
	require.ErrorContains(t, err, "9-8")
}

func BenchmarkGrant(b *testing.B) {
	book, err := pool.NewBook(pool.BookOptions{Node: "n", Advertise: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	require.NoError(b, err)
	i := 0
	for b.Loop() {
		i++
		_, err := book.Grant(event.LeaseRequest{
			Attacker: netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.%d/32", i>>16&255, i>>8&255, i&255)), Host: strconv.Itoa(i / 9000),
			Service: event.SSH, Seen: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("192.0.3.%d", i/9000%250))}, Expires: time.Now().Add(time.Hour),
		})
		require.NoError(b, err)
	}
}

// Of a pot's leases the strictest policy holds; of one lease the latest word; without one it is never recorded for.
func TestReachOfPots(t *testing.T) {
	file := filepath.Join(t.TempDir(), "leases.json")
	b, c := newBook(t, func(o *pool.BookOptions) { o.File = file })
	k := event.PotKey{Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web"}
	ask := func(service event.Service, p event.EgressPolicy) event.Lease {
		t.Helper()
		req := request(c, "203.0.113.66/32", "web")
		req.Service, req.Egress = service, p
		l, err := b.Grant(req)
		require.NoError(t, err)
		return l
	}
	reach := func() event.EgressPolicy { return b.Egress(k, event.EgressSinkhole) }
	assert.Equal(t, event.EgressSinkhole, reach())
	assert.Equal(t, event.EgressSinkhole, b.Egress(k, event.EgressRecord), "nobody comes in any more")
	ask(event.SSH, event.EgressRecord)
	assert.Equal(t, event.EgressRecord, reach())
	ask(event.Redis, "")
	assert.Equal(t, event.EgressSinkhole, reach(), "one that says nothing asks for the default")
	ask(event.MySQL, event.EgressNone)
	assert.Equal(t, event.EgressNone, reach())
	l := ask(event.MySQL, event.EgressRecord)
	assert.Equal(t, event.EgressSinkhole, reach())
	b.Release(k.Attacker, "web", event.Redis)
	assert.Equal(t, event.EgressRecord, reach())

	// What the server says later holds, and a restart forgets nothing.
	require.NoError(t, b.Save())
	again, _ := newBook(t, func(o *pool.BookOptions) { o.File, o.Now = file, c.Now })
	assert.Equal(t, event.EgressRecord, again.Egress(k, event.EgressSinkhole))
	all := b.Leases()
	for i := range all {
		if all[i].ID == l.ID {
			all[i].Egress = event.EgressNone
		}
	}
	c.now = c.now.Add(time.Second)
	b.Apply(all, c.now)
	assert.Equal(t, event.EgressNone, reach())
}
