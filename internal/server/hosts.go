package server

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// host is what the server knows of a protected host.
type host struct {
	Name      string
	Aliases   []string
	Static    []netip.Addr // from the configuration
	Road      string       // from the configuration: agent, syslog or file; empty: the first that brings something
	Enrolled  bool
	Status    event.HostStatus
	LastSeen  time.Time
	Connected bool
}

// addresses are those from the configuration and those that the agent told.
func (h *host) addresses() []netip.Addr {
	return append(slices.Clone(h.Static), h.Status.Addresses...)
}

// hosts is the registry of protected hosts. It is safe for concurrent use.
type hosts struct {
	mu        sync.RWMutex
	byName    map[string]*host
	byAlias   map[string]string
	byAddress map[netip.Addr]string
}

func newHosts() *hosts {
	return &hosts{byName: map[string]*host{}, byAlias: map[string]string{}, byAddress: map[netip.Addr]string{}}
}

// put adds or changes a host. An address that another host has already stays that host's: an agent
// can't take over another host's lines by claiming its address.
func (r *hosts) put(name string, change func(*host)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h, ok := r.byName[name]
	if !ok {
		h = &host{Name: name}
		r.byName[name] = h
	}
	change(h)
	r.index()
}

func (r *hosts) remove(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byName, name)
	r.index()
}

func (r *hosts) index() {
	aliases, addresses := map[string]string{}, map[netip.Addr]string{}
	names := make([]string, 0, len(r.byName))
	for n := range r.byName {
		names = append(names, n)
	}
	slices.Sort(names)
	claim := func(a netip.Addr, name string) {
		if _, taken := addresses[a]; !taken {
			addresses[a] = name
		}
	}
	for _, n := range names { // what an operator configured comes before what agents claim
		h := r.byName[n]
		aliases[n] = n
		for _, a := range h.Aliases {
			aliases[strings.ToLower(a)] = n
		}
		for _, a := range h.Static {
			claim(a, n)
		}
	}
	for _, n := range names {
		for _, a := range r.byName[n].Status.Addresses {
			if old, ok := r.byAddress[a]; ok && r.byName[old] != nil && slices.Contains(r.byName[old].addresses(), a) {
				claim(a, old)
			}
			claim(a, n)
		}
	}
	r.byAlias, r.byAddress = aliases, addresses
}

// of returns the host that has an address.
func (r *hosts) of(a netip.Addr) (string, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n, ok := r.byAddress[event.Canonical(a)]
	return n, ok
}

// named returns the host of a name as log lines write it: its name, an alias, or a full name that begins with it.
func (r *hosts) named(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	r.mu.RLock()
	defer r.mu.RUnlock()
	if n, ok := r.byAlias[name]; ok {
		return n, true
	}
	label, _, qualified := strings.Cut(name, ".")
	if !qualified {
		return "", false
	}
	n, ok := r.byAlias[label]
	return n, ok
}

// get returns a copy of what is known of a host.
func (r *hosts) get(name string) (host, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	h, ok := r.byName[name]
	if !ok {
		return host{}, false
	}
	return *h, true
}

// all returns a copy of every host, by name.
func (r *hosts) all() []host {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]host, 0, len(r.byName))
	for _, h := range r.byName {
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b host) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// defaultPorts are where services are where a host doesn't say otherwise.
func defaultPort(s event.Service) uint16 {
	if s == event.SSH {
		return 22
	}
	return 0
}

// Port implements decide.Hosts.
func (r *hosts) Port(name string, s event.Service) uint16 {
	h, _ := r.get(name)
	for _, p := range h.Status.Services {
		if p.Service == s {
			return p.Port
		}
	}
	return defaultPort(s)
}

// Names implements decide.Hosts.
func (r *hosts) Names() []string {
	var out []string
	for _, h := range r.all() {
		out = append(out, h.Name)
	}
	return out
}

// Services implements decide.Hosts.
func (r *hosts) Services(name string) []event.HostPort {
	h, _ := r.get(name)
	return h.Status.Services
}

// Addresses implements decide.Hosts.
func (r *hosts) Addresses(name string) []netip.Addr {
	h, _ := r.get(name)
	return h.addresses()
}
