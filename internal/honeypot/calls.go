package honeypot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/fetch"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/sink"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
)

// Egress is what pots reach when they call out.
type Egress struct {
	Default event.EgressPolicy // of pots whose leases don't say; event.EgressSinkhole where empty
	Most    event.EgressPolicy // that leases may ask for; event.EgressSinkhole where empty
	// The rest is of event.EgressRecord.
	Forbid       []netip.Prefix // never fetched from, beside what never is
	FetchSize    int64          // bytes of one file; 10 MiB where 0
	PerMinute    int            // fetches of one attacker; 5 where 0
	AllPerMinute int            // fetches of all; 30 where 0
	// Resolve finds a name's addresses; the machine's own resolver where nil.
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)
}

func (e Egress) orDefault() Egress {
	if e.Default == "" {
		e.Default = event.EgressSinkhole
	}
	if e.Most == "" {
		e.Most = event.EgressSinkhole
	}
	e.Default = e.Default.Stricter(e.Most)
	return e
}

// calls are the parts of a node that take what its pots send out.
type calls struct {
	egress   Egress
	sockets  *egress.Sockets
	sink     *sink.Sink
	recorder *recorder // nil unless the node may record
	proxy    *fetch.Proxy
	proxyEnd *net.UnixConn                // where it is asked
	told     atomic.Pointer[[]netip.Addr] // addresses that the server says are ours
	leading  sync.Mutex                   // what is known of the pots and what the kernel is told of them are one
}

func (c *calls) close() error {
	var errs []error
	if c.recorder != nil {
		errs = append(errs, c.recorder.client.Close(), c.proxyEnd.Close())
	}
	if c.sockets != nil {
		errs = append(errs, c.sockets.Close())
	}
	return errors.Join(errs...)
}

const secretSize = 32

// openSink opens what takes the pots' calls.
func (n *Node) openSink(p *parts) error {
	p.homes = record.NewHomes(record.HomesOptions{
		Node: n.o.Name, Vault: p.vault, Session: p.outbox.Put, Target: p.book.Target, Log: n.log,
	})
	secret, err := persistentSecret(filepath.Join(n.o.StateDir, "sinkhole.secret"))
	if err != nil {
		return err
	}
	if p.sockets, err = p.net.OpenSockets(); err != nil {
		return err
	}
	o := sink.Options{Sockets: p.sockets, Secret: secret, Pot: p.caller, Note: p.homes.Note, Log: n.log}
	if p.egress.Most == event.EgressRecord {
		if err := n.openRecorder(p); err != nil {
			return err
		}
		o.Fetch = p.recorder
	}
	p.sink, err = sink.New(o)
	return err
}

// persistentSecret reads a secret, or makes it.
func persistentSecret(path string) ([]byte, error) {
	secret, err := os.ReadFile(path)
	if err == nil && len(secret) == secretSize {
		return secret, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the sinkhole's secret: %w", err)
	}
	secret = make([]byte, secretSize)
	_, _ = rand.Read(secret) // never fails
	if err := os.WriteFile(path, secret, 0o600); err != nil {
		return nil, fmt.Errorf("keep the sinkhole's secret: %w", err)
	}
	return secret, nil
}

// reach is what a pot may reach now: the strictest of what its leases ask for and the node permits.
func (p *parts) reach(k event.PotKey) event.EgressPolicy {
	return p.book.Egress(k, p.egress.Default).Stricter(p.egress.Most)
}

// caller tells who has an address.
func (p *parts) caller(a netip.Addr) (sink.Pot, bool) {
	index, ok := p.net.Place(a)
	if !ok || p.pots == nil {
		return sink.Pot{}, false
	}
	pot, ok := p.pots.At(index)
	if !ok {
		return sink.Pot{}, false
	}
	k := event.PotKey{Attacker: pot.Attacker, Host: pot.Host}
	return sink.Pot{Pot: pot, Policy: p.reach(k), Target: p.book.Target(k), Addresses: p.net.Addresses(index)}, true
}

// applyEgress has the kernel let those pots call out that may.
func (p *parts) applyEgress() error {
	p.leading.Lock()
	defer p.leading.Unlock()
	places := map[int]bool{}
	for index, k := range p.pots.Places() {
		if p.reach(k) != event.EgressNone {
			places[index] = true
		}
	}
	return p.net.Sink(places)
}

// egressFindings say what is remarkable about the pots' calls.
func (p *parts) egressFindings() []event.Finding {
	var out []event.Finding
	if p.egress.Most == event.EgressRecord {
		out = append(out, event.Finding{
			Level: "warning", Subject: "egress", Text: fmt.Sprintf("RECORDING IS ON: this node fetches from the internet what attackers in pots ask for by HTTP, where their rule asks for it (default: %s)", p.egress.Default),
			Mend: "set honeypot.egress.most: sinkhole unless you want that",
		})
	}
	c, _ := p.sink.Counts()
	d, err := p.net.Dropped()
	if err != nil {
		out = append(out, event.Finding{Level: "warning", Subject: "egress", Text: err.Error()})
	}
	if d.Forged > 0 {
		out = append(out, event.Finding{Level: "warning", Subject: "egress", Text: fmt.Sprintf("pots sent %d packets from addresses that are not theirs; they were dropped", d.Forged)})
	}
	if lost := c.OverPot + c.OverTotal; lost > 0 || d.Flood > 0 || c.Untold > 0 {
		out = append(out, event.Finding{
			Level: "ok", Subject: "egress",
			Text: fmt.Sprintf("pots scan or flood: %d connections and %d packets were over the bounds and went nowhere, %d pieces of evidence are only counted", lost, d.Flood, c.Untold),
		})
	}
	return out
}
