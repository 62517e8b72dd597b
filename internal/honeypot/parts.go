package honeypot

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/certificate"
	"github.com/kokkuri/kokkuri/internal/honeypot/credential"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/door"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/gate"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/inside"
	"github.com/kokkuri/kokkuri/internal/honeypot/guise"
	"github.com/kokkuri/kokkuri/internal/honeypot/hostkeys"
	"github.com/kokkuri/kokkuri/internal/honeypot/persona"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/honeypot/watch"
)

// parts are what a running node is made of.
type parts struct {
	calls // what takes the pots' calls

	engine *engine.Docker
	guises *guise.Guises
	net    *egress.Net
	book   *pool.Book
	pots   *pool.Pots
	vault  *record.Vault
	outbox *record.Outbox
	homes  *record.Homes
	watch  *watch.Watcher
	policy *credential.Policy
	keys   *hostkeys.Keys
	ca     *inside.Authority
	certs  *certificate.Store
	door   *door.Handler // nil where only the builtin front speaks SSH
	choice *choice       // nil as well then
	over   *overflow
	own    *ownKeys
	front  *front.Front
	gate   *gate.Gate

	personas *persona.Book
	come     chan struct{} // an attacker of a host was given a lease

	granting sync.Mutex // a change of the leases and of the gate are one
}

// open makes the parts. Where one fails, those before it are closed.
func (n *Node) open() (_ *parts, err error) {
	p := &parts{come: make(chan struct{}, 1), calls: calls{egress: n.o.Egress.orDefault()}}
	defer func() {
		if err != nil {
			p.close(n.log)
		}
	}()
	o := n.o
	if p.vault, err = record.OpenVault(record.VaultOptions{
		Dir: o.StateDir, MaxSession: o.Recording, MaxFile: o.File, MaxAttacker: o.PerAttacker, MaxTotal: o.Recordings, Log: n.log,
		Noted: func(session string) { p.outbox.Noted(session) },
	}); err != nil {
		return nil, err
	}
	if err = n.openOutbox(p); err != nil {
		return nil, err
	}
	if p.book, err = pool.NewBook(pool.BookOptions{
		Node: o.Name, Advertise: o.Advertise, Ports: o.Ports, Quarantine: o.Quarantine, KeepPots: o.KeepPots,
		File: filepath.Join(o.StateDir, "leases.json"), Log: n.log,
		IsLocal: func(a netip.Addr) bool { return isLocal(o.NetNS, a) },
		Ended:   func(l event.Lease) { n.ended(p, l) },
	}); err != nil {
		return nil, err
	}
	subnet6, err := persistentSubnet6(filepath.Join(o.StateDir, "subnet6"))
	if err != nil {
		return nil, err
	}
	p.net, err = egress.Open(egress.Options{Name: o.Namespace, Subnet: o.Subnet, Subnet6: subnet6, Log: n.log})
	if err != nil {
		return nil, err
	}
	if err = n.openSink(p); err != nil {
		return nil, err
	}
	if p.engine, err = engine.New(engine.Options{Host: o.Engine, Node: o.Name, Log: n.log}); err != nil {
		return nil, err
	}
	if err = n.openSecrets(p); err != nil {
		return nil, err
	}
	if err = n.openPersonas(p); err != nil {
		return nil, err
	}
	if err = n.openWatch(p); err != nil {
		return nil, err
	}
	p.guises = guise.New(guise.Options{Log: n.log})
	p.pots = pool.NewPots(n.potsOptions(p))
	p.over = newOverflow(o.Overflow, cmp.Or(o.MaxSessions, front.DefaultTotal), p.pots.Full)
	handlers, err := n.handlers(p)
	if err != nil {
		return nil, err
	}
	if p.front, err = front.New(front.Options{
		Node: o.Name, Lookup: p.book.Lookup, Handlers: handlers, Raw: front.Raw{Reach: p.toPots(), Idle: o.Idle},
		Session: p.outbox.Put, Entered: p.entered, Vault: p.vault, PerLease: o.PerLease, Total: o.MaxSessions, NetNS: o.NetNS, Log: n.log,
	}); err != nil {
		return nil, err
	}
	v4, v6 := p.front.Ports()
	p.gate, err = gate.Open(gate.Options{
		Table: o.Table, Addresses: canonical(o.Advertise), First: o.Ports.First, Last: o.Ports.Last,
		Listener4: v4, Listener6: v6, NetNS: o.NetNS, Log: n.log,
	})
	return p, err
}

func (n *Node) potsOptions(p *parts) pool.PotsOptions {
	o := n.o
	return pool.PotsOptions{
		Node: o.Name, Engine: p.engine, Disk: p.engine, Network: p.net, Capacity: p.net.Capacity(), MaxPots: o.MaxPots,
		MaxDisk: o.PotDisk, Limits: o.Limits, Wanted: p.book.Wanted, Leased: p.book.Leased,
		Image:    func(ctx context.Context) (string, error) { return n.warmImage(ctx, p) },
		ImageFor: func(ctx context.Context, k event.PotKey) (string, error) { return n.imageFor(ctx, p, k) },
		Fits:     func(k event.PotKey, image string) bool { return n.fits(p, k, image) },
		Life: pool.Life{
			Guise: p.guise, Woken: p.woken, Archive: p.archive, Died: p.watch.Remove,
			Dress:   func(ctx context.Context, d pool.Dressing) error { return n.dress(ctx, p, d) },
			Removed: func(k event.PotKey) { n.removed(p, k) },
		},
		Run: p.run, Ask: p.ask,
		Changed: func() {
			if err := p.applyEgress(); err != nil {
				n.log.Error("what pots may reach", "error", err)
			}
			n.poke()
		},
		File: filepath.Join(o.StateDir, "pots.json"), Warm: o.Pool.Warm, KeepFree: o.Pool.KeepFree,
		PauseAfter: o.Pool.PauseAfter, StopAfter: o.Pool.StopAfter, Log: n.log,
	}
}

func canonical(addrs []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		out[i] = event.Canonical(a)
	}
	return out
}

// close forgets what is open; what has to end is over by now.
func (p *parts) close(log *slog.Logger) {
	var errs []error
	if p.vault != nil {
		errs = append(errs, p.vault.Save())
	}
	if p.front != nil {
		p.front.Close()
	}
	if p.door != nil {
		p.door.Close()
	}
	if p.policy != nil {
		errs = append(errs, p.policy.Close())
	}
	errs = append(errs, p.calls.close())
	if p.guises != nil {
		p.guises.Close()
	}
	if p.net != nil {
		errs = append(errs, p.net.Close())
	}
	if p.watch != nil {
		errs = append(errs, p.watch.Close())
	}
	if p.engine != nil {
		errs = append(errs, p.engine.Close())
	}
	if err := errors.Join(errs...); err != nil {
		log.Warn("closing the node", "error", err)
	}
}

// openOutbox opens the outbox and ends the sessions that a killed process left open.
func (n *Node) openOutbox(p *parts) error {
	box, open, err := record.OpenOutbox(record.OutboxOptions{
		Dir: n.o.StateDir, Publish: n.o.Bus.PublishSession, Vault: p.vault, Log: n.log,
	})
	if err != nil {
		return err
	}
	p.outbox = box
	found, err := p.vault.Recover(NodeStopped)
	if err != nil {
		return err
	}
	recovered := make(map[string]record.Recovered, len(found))
	for _, r := range found {
		recovered[r.Header.Session] = r
	}
	for _, s := range open {
		r, ok := recovered[s.ID]
		delete(recovered, s.ID)
		if !ok {
			s.EndedAt, s.Reason, s.Truncated = time.Now(), NodeStopped, true
			if err := box.Put(s); err != nil {
				return err
			}
			continue
		}
		if err := box.Put(endOf(s, r)); err != nil {
			return err
		}
	}
	for _, r := range recovered { // of sessions that could not be noted down when they began
		h := r.Header
		s := event.Session{
			ID: h.Session, Node: h.Node, Host: h.Host, Service: h.Service, Attacker: h.Attacker,
			StartedAt: h.StartedAt, Peer: h.Peer, Target: h.Target,
		}
		if err := box.Put(endOf(s, r)); err != nil {
			return err
		}
	}
	if len(open)+len(recovered) > 0 {
		n.log.Info("sessions ended with the node's last process", "sessions", len(open)+len(recovered))
	}
	return nil
}

func endOf(s event.Session, r record.Recovered) event.Session {
	s.EndedAt, s.Reason = r.LastAt, r.Reason
	s.BytesIn, s.BytesOut, s.Recording = r.BytesIn, r.BytesOut, r.SHA256
	s.Truncated = !r.Complete
	return s
}

// answer grants or releases a lease. When it returns, the kernel lets the attacker pass, or no more.
func (p *parts) answer(ctx context.Context, req event.LeaseRequest, log *slog.Logger) event.LeaseReply {
	switch req.Op {
	case "grant":
		l, err := p.grant(req)
		if err != nil {
			log.WarnContext(ctx, "lease refused", "attacker", req.Attacker, "host", req.Host, "error", err)
			return event.LeaseReply{Error: err.Error()}
		}
		log.InfoContext(ctx, "lease granted", "lease", l.ID, "attacker", l.Attacker, "host", l.Host,
			"service", l.Service, "endpoint", l.Endpoint, "expires", l.Expires)
		return event.LeaseReply{Lease: l}
	case "release":
		l, _ := p.book.Release(req.Attacker, req.Host, req.Service)
		return event.LeaseReply{Lease: l}
	default:
		return event.LeaseReply{Error: fmt.Sprintf("lease request: op is %q; it has to be grant or release", req.Op)}
	}
}

func (p *parts) grant(req event.LeaseRequest) (event.Lease, error) {
	p.granting.Lock()
	defer p.granting.Unlock()
	l, err := p.book.Grant(req)
	if err != nil {
		return event.Lease{}, err
	}
	sources, local := p.book.Sources(l.ID)
	if err := p.gate.Put(elements(sources)...); err != nil {
		return event.Lease{}, err
	}
	if err := p.applyEgress(); err != nil {
		return event.Lease{}, err
	}
	if local {
		if err := p.front.OpenEndpoint(l); err != nil {
			return event.Lease{}, err
		}
	}
	p.personas.Want(req.Host)
	select {
	case p.come <- struct{}{}:
	default:
	}
	return l, nil
}

// hosts are those whose attackers are held.
func (p *parts) hosts() []string {
	var out []string
	for _, l := range p.book.Leases() {
		out = append(out, l.Host)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func elements(sources []pool.Source) []gate.Element {
	out := make([]gate.Element, 0, len(sources))
	for _, s := range sources {
		out = append(out, gate.Element{Prefix: s.Prefix, Port: s.Port})
	}
	return out
}

// sync brings gate and endpoints to what the book says.
func (p *parts) sync(log *slog.Logger) {
	p.granting.Lock()
	defer p.granting.Unlock()
	if err := p.gate.Set(elements(p.book.AllSources())); err != nil {
		log.Error("the gate of the endpoints", "error", err)
	}
	if err := p.applyEgress(); err != nil {
		log.Error("what pots may reach", "error", err)
	}
	for _, l := range p.book.Leases() {
		if _, local := p.book.Sources(l.ID); local {
			if err := p.front.OpenEndpoint(l); err != nil {
				log.Error("endpoint", "endpoint", l.Endpoint, "error", err)
			}
		}
	}
}

// ended follows the end of a lease: no new connection, no old one, and no pot without a lease.
func (n *Node) ended(p *parts, l event.Lease) {
	if p.gate != nil && p.front != nil {
		p.sync(n.log)
		p.front.CloseLease(l.ID)
	}
	if p.choice != nil {
		p.choice.forget(l.PotKey())
	}
	if p.pots != nil {
		p.pots.Tidy()
	}
	n.log.Info("lease ended", "lease", l.ID, "attacker", l.Attacker, "host", l.Host, "endpoint", l.Endpoint)
	n.poke()
}

// persistentSubnet6 returns the pots' IPv6 network: random, so that it tells nobody what it is, and
// always the same.
func persistentSubnet6(path string) (netip.Prefix, error) {
	data, err := os.ReadFile(path)
	if err == nil {
		p, err := netip.ParsePrefix(strings.TrimSpace(string(data)))
		if err == nil && p.Bits() == 64 && p.Addr().Is6() {
			return p, nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return netip.Prefix{}, fmt.Errorf("read the pots' IPv6 network: %w", err)
	}
	// A unique local /64 (RFC 4193).
	a := [16]byte{0: 0xfd}
	_, _ = rand.Read(a[1:6]) // never fails
	p := netip.PrefixFrom(netip.AddrFrom16(a), 64)
	if err := os.WriteFile(path, []byte(p.String()+"\n"), 0o600); err != nil {
		return netip.Prefix{}, fmt.Errorf("keep the pots' IPv6 network: %w", err)
	}
	return p, nil
}
