package server

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/decide"
)

func addrs(ss ...string) []netip.Addr {
	out := make([]netip.Addr, len(ss))
	for i, s := range ss {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

func TestHostsByNameAndAddress(t *testing.T) {
	t.Parallel()
	r := newHosts()
	r.put("web", func(h *host) {
		h.Aliases, h.Static = []string{"www.example.org"}, addrs("192.0.2.1")
	})
	r.put("db", func(h *host) { h.Status.Addresses = addrs("192.0.2.2", "2001:db8::2") })

	for name, want := range map[string]string{"web": "web", "WEB": "web", "web.example.org": "web", "www.example.org": "web", "db.": "db", "mail": "", "evil.web": "", "": ""} {
		got, ok := r.named(name)
		require.Equal(t, want, got, name)
		require.Equal(t, want != "", ok, name)
	}
	got, _ := r.of(netip.MustParseAddr("::ffff:192.0.2.2"))
	require.Equal(t, "db", got, "IPv4-mapped")

	r.put("evil", func(h *host) { h.Status.Addresses = addrs("192.0.2.1", "192.0.2.2", "192.0.2.3") })
	for a, want := range map[string]string{"192.0.2.1": "web", "192.0.2.2": "db", "192.0.2.3": "evil"} {
		got, _ := r.of(netip.MustParseAddr(a))
		require.Equal(t, want, got, "no agent takes another host's address by claiming it")
	}
	r.put("a-evil", func(h *host) { h.Status.Addresses = addrs("192.0.2.2") })
	got, _ = r.of(netip.MustParseAddr("192.0.2.2"))
	require.Equal(t, "db", got, "also when its name sorts first")
	r.remove("db")
	got, _ = r.of(netip.MustParseAddr("192.0.2.2"))
	require.Equal(t, "a-evil", got)
}

func TestNodesGrant(t *testing.T) {
	t.Parallel()
	answers := map[string]event.LeaseReply{
		"n1": {Error: "no port is free"},
		"n2": {Lease: event.Lease{Node: "n2", Endpoint: netip.MustParseAddrPort("198.51.100.2:20000")}},
		"n3": {Lease: event.Lease{Node: "n3", Endpoint: netip.MustParseAddrPort("203.0.113.1:22")}},
	}
	n := newNodes(func(_ context.Context, node string, _ event.LeaseRequest) (event.LeaseReply, error) {
		a, ok := answers[node]
		if !ok {
			return a, errors.New("no responders")
		}
		return a, nil
	}, slog.New(slog.DiscardHandler))
	now := time.Now()
	n.now = func() time.Time { return now }
	v4 := event.LeaseRequest{Attacker: netip.MustParsePrefix("192.0.2.66/32"), Service: event.SSH}
	v6 := event.LeaseRequest{Attacker: netip.MustParsePrefix("2001:db8:66::/64"), Service: event.SSH}

	_, err := n.Grant(t.Context(), v4)
	require.ErrorIs(t, err, decide.ErrNoNode)
	require.True(t, n.told(event.NodeStatus{Node: "n1", Services: []event.Service{event.SSH}, Addresses: addrs("198.51.100.1")}))
	require.False(t, n.told(event.NodeStatus{Node: "n1", Services: []event.Service{event.SSH}, Addresses: addrs("198.51.100.1")}))
	_, err = n.Grant(t.Context(), v4)
	require.ErrorContains(t, err, "node n1 gives no lease: no port is free")

	n.told(event.NodeStatus{Node: "n0", Services: []event.Service{"mysql"}, Addresses: addrs("198.51.100.9")})
	n.told(event.NodeStatus{Node: "n2", Services: []event.Service{event.SSH}, Addresses: addrs("198.51.100.2")})
	l, err := n.Grant(t.Context(), v4)
	require.NoError(t, err)
	require.Equal(t, "n2", l.Node, "the next node takes over")
	_, err = n.Grant(t.Context(), v6)
	require.ErrorIs(t, err, decide.ErrNoNode, "no node over IPv6")

	now = now.Add(nodeTimeout + time.Second)
	_, err = n.Grant(t.Context(), v4)
	require.ErrorIs(t, err, decide.ErrNoNode, "all are gone")
	require.True(t, n.told(event.NodeStatus{Node: "n3", Services: []event.Service{event.SSH}, Addresses: addrs("198.51.100.3")}))
	_, err = n.Grant(t.Context(), v4)
	require.ErrorContains(t, err, "isn't its own", "a node can't send an attacker to somebody else")
}

func TestRoads(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	k := roadKey{"web", event.SSH}
	fixed := map[string]string{}
	r := &roads{fixed: func(h string) string { return fixed[h] }}
	r.restore(nil)
	require.True(t, r.admit(k, event.RoadAgent, start))
	require.False(t, r.admit(k, event.RoadSyslogTCP, start.Add(time.Minute)), "the second road")
	require.True(t, r.admit(k, event.RoadAgent, start.Add(2*time.Minute)))
	require.False(t, r.admit(k, event.RoadSyslogTCP, start.Add(11*time.Minute)), "silent for 9 minutes only")
	require.True(t, r.admit(roadKey{"db", event.SSH}, event.RoadSyslogTCP, start), "another host")

	again := &roads{fixed: r.fixed}
	again.restore(r.snapshot())
	require.False(t, again.admit(k, event.RoadSyslogTCP, start.Add(11*time.Minute)), "also after a restart")
	require.True(t, again.admit(k, event.RoadSyslogTCP, start.Add(12*time.Minute)), "takes over")
	require.False(t, again.admit(k, event.RoadAgent, start.Add(13*time.Minute)))

	fixed["web"] = "file"
	require.False(t, r.admit(k, event.RoadSyslogTCP, start.Add(time.Hour)))
	require.True(t, r.admit(k, event.RoadFile, start.Add(time.Hour)))
	fixed["web"] = "syslog"
	require.False(t, r.admit(k, event.RoadAgent, start.Add(2*time.Hour)))
	require.True(t, r.admit(k, event.RoadSyslogTCP, start.Add(2*time.Hour)))
	require.False(t, r.admit(k, event.RoadSyslogUDP, start.Add(2*time.Hour)), "the same lines by UDP as well")
}

func TestPlausible(t *testing.T) {
	t.Parallel()
	received := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for stated, want := range map[time.Time]time.Time{
		{}:                            received,
		received.Add(-time.Hour):      received.Add(-time.Hour),
		received.Add(time.Minute):     received.Add(time.Minute),
		received.Add(time.Hour):       received,
		received.Add(-24 * time.Hour): received.Add(-24 * time.Hour),
		received.AddDate(-1, 0, 0):    received,
	} {
		require.Equal(t, want, plausible(stated, received), stated)
	}
}
