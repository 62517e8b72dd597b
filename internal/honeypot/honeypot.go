// Package honeypot is the node: it gives attackers endpoints and pots of their own, stands between
// both, and tells the server what happened.
package honeypot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/sink"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/gate"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/honeypot/watch"
)

const (
	// BuiltinImage is the image of pots that the node builds itself.
	BuiltinImage = "kokkuri/pot"
	// DoorImage is the image of the doors of SSH, which the node builds itself, too.
	DoorImage = "kokkuri/door"
	// machineImage is what it is built on: a machine with an SSH server, and nothing else to come for.
	machineImage = "kokkuri/ssh"

	// NodeStopped is why sessions ended that were open when the node was killed.
	NodeStopped = "node stopped"

	statusEvery  = 15 * time.Second
	statusSoon   = 200 * time.Millisecond // changes are told together
	statusWithin = 10 * time.Second
	statusRetry  = 250 * time.Millisecond
	flushWithin  = 3 * time.Second
	saveEvery    = 30 * time.Second
)

// Bus is the node's way to its server. All of it may fail, and is tried again, while the server is away.
type Bus interface {
	// ServeLeases answers lease requests for the node until stop.
	ServeLeases(node string, fn func(context.Context, event.LeaseRequest) event.LeaseReply) (stop func(), err error)
	// Status tells the node's status; the answer are the leases that the server knows of.
	Status(ctx context.Context, s event.NodeStatus) (event.NodeDesired, error)
	// PublishSession returns when the server's stream has the report.
	PublishSession(ctx context.Context, r event.SessionReport) error
	// Persona asks what a host's pots are to be; one without an origin is not known.
	Persona(ctx context.Context, node, host string) (event.PersonaOf, error)
	// HostKeys asks for a host's own SSH host keys; none where its operator does not give them out.
	HostKeys(ctx context.Context, node, host string) (event.HostKeys, error)
	// ServeEvidence answers requests for the node's evidence until stop.
	ServeEvidence(node string, fn func(context.Context, event.EvidenceRequest) event.EvidenceReply) (stop func(), err error)
}

// Options configure a node.
type Options struct {
	Name      string // of the node: a DNS label in lower case
	Version   string
	Bus       Bus
	Connected <-chan struct{} // receives when the bus is connected anew; may be nil
	StateDir  string          // what must survive a restart
	Advertise []netip.Addr    // where hosts reach the endpoints: this machine's addresses
	Ports     pool.Ports      // of the endpoints; pool.DefaultPorts where zero
	Engine    string          // address of the Docker engine; engine.DefaultHost where empty
	Image     string          // of the pots; BuiltinImage, which is built, where empty
	Namespace string          // network namespace of the pots; NamespaceOf(Name) where empty
	Table     string          // nftables table of the endpoints; gate.DefaultTable where empty
	Subnet    netip.Prefix    // of the pots, IPv4; egress.DefaultSubnet where invalid

	Egress      Egress // what pots reach
	Least, Most int    // distinct guesses that are refused; credential's defaults where Most is 0
	SSH         SSH
	Pool        Pool
	Watch       watch.Mode // how programs in pots are seen

	Quarantine  time.Duration // how long a released port rests; pool.DefaultQuarantine where 0
	KeepPots    time.Duration // how long a pot outlives its last lease
	MaxPots     int           // 256 where 0
	Overflow    string        // what an attacker meets for whom there is none; OverflowBuiltin where empty
	Limits      engine.Limits // of one pot
	PotDisk     int64         // bytes that a pot may write; 1 GiB where 0
	MaxSessions int           // at once; 4096 where 0
	PerLease    int           // sessions of one lease at once; 256 where 0
	Idle        time.Duration // silence that ends a session; 30 minutes where 0
	Recording   int64         // bytes of one recording; 64 MiB where 0
	File        int64         // bytes of one file that comes with a session; 64 MiB where 0
	PerAttacker int64         // bytes of all recordings and files of an attacker; 1 GiB where 0
	Recordings  int64         // bytes of all of them, the oldest go first; no bound where 0

	NetNS *netns.NS // where the endpoints are; nil for the process's own namespace
	Log   *slog.Logger
}

// SSH is what attackers see of a pot's SSH server.
type SSH struct {
	Version   string        // what it calls itself; as the pot's own server where empty
	Methods   []string      // of logging in
	FailDelay time.Duration // about how long a wrong password takes; 2 s where 0
	// Front is what speaks SSH: FrontOpenSSH where empty.
	Front string
	// AtDoor is how many connections at once FrontAuto has OpenSSH speak with; 500 where 0.
	AtDoor     int
	Door       string // image of the door; DoorImage, which is built, where empty
	DoorMemory int64  // bytes; 2 GiB where 0
}

// Pool is how pots are kept ready.
type Pool struct {
	Warm       int           // pots that wait for attackers
	KeepFree   int64         // bytes of the machine's memory that they leave free
	PauseAfter time.Duration // without a session; 5 minutes where 0
	StopAfter  time.Duration // without a session; an hour where 0
}

// Node is one honeypot node.
type Node struct {
	o   Options
	log *slog.Logger

	changed chan struct{}

	mu       sync.Mutex
	parts    *parts // nil unless it runs
	image    imageState
	suites   suites
	findings map[string]event.Finding // by subject, of what is no part's own
}

// NamespaceOf is the network namespace of a node's pots: each node of a machine has its own.
func NamespaceOf(node string) string { return egress.DefaultName + "-" + node }

// New checks the options. Nothing is touched before Run.
func New(o Options) (*Node, error) {
	if !regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`).MatchString(o.Name) {
		return nil, fmt.Errorf("node name %q: it has to be 1 to 63 of a-z, 0-9 and -, and start and end with a letter or digit", o.Name)
	}
	if o.Bus == nil || o.StateDir == "" {
		return nil, errors.New("a node needs a bus and a state folder")
	}
	if o.Ports == (pool.Ports{}) {
		o.Ports = pool.DefaultPorts()
	}
	if o.Image == "" {
		o.Image = BuiltinImage
	}
	if o.Namespace == "" {
		o.Namespace = NamespaceOf(o.Name)
	}
	switch o.Overflow {
	case "":
		o.Overflow = OverflowBuiltin
	case OverflowBuiltin, OverflowTarpit, OverflowDrop:
	default:
		return nil, fmt.Errorf("overflow: %q; it has to be %s, %s or %s", o.Overflow, OverflowBuiltin, OverflowTarpit, OverflowDrop)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Node{
		o: o, log: o.Log, changed: make(chan struct{}, 1), findings: make(map[string]event.Finding), suites: newSuites(),
	}, nil
}

// Run is the node until ctx is done. Then nothing is exposed any more and all sessions are closed and
// told; pots go on running, for the node's next start to find them.
func (n *Node) Run(ctx context.Context) error {
	if err := os.MkdirAll(n.o.StateDir, 0o700); err != nil {
		return fmt.Errorf("make the node's state folder: %w", err)
	}
	unlock, err := lock(filepath.Join(n.o.StateDir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if err := n.checkPorts(); err != nil {
		return err
	}
	p, err := n.open() //nolint:contextcheck // what it opens is closed with the node, not with ctx
	if err != nil {
		return err
	}
	n.setParts(p)
	defer n.setParts(nil)
	n.log.InfoContext(ctx, "node is up", "node", n.o.Name, "addresses", n.o.Advertise,
		"first_port", n.o.Ports.First, "last_port", n.o.Ports.Last)
	err = n.work(ctx, p)
	n.log.InfoContext(context.WithoutCancel(ctx), "node is down", "node", n.o.Name)
	return err
}

func (n *Node) setParts(p *parts) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.parts = p
}

// work runs all parts and ends them in the order in which nothing is lost: first nobody gets in any
// more, then sessions end, then what they left is told and saved.
func (n *Node) work(ctx context.Context, p *parts) error {
	var stack shutdown
	defer stack.unwind()

	background := context.WithoutCancel(ctx)
	stack.push(func() { p.close(n.log) })
	stack.start(background, func(ctx context.Context) {
		if err := p.book.Run(ctx); err != nil {
			n.log.ErrorContext(ctx, "leases are not saved", "error", err)
		}
	})
	stack.push(func() {
		ctx, cancel := context.WithTimeout(background, flushWithin)
		defer cancel()
		if err := p.outbox.Flush(ctx); err != nil {
			n.log.WarnContext(ctx, "session records wait for the next start", "error", err)
		}
	})
	stack.start(background, p.outbox.Run)
	stack.start(background, func(ctx context.Context) { p.homes.Run(ctx, front.NodeStopping) })
	stack.start(background, p.watch.Run)
	stack.start(background, func(ctx context.Context) { n.saveUsage(ctx, p) })
	stack.start(background, p.net.Run)
	if p.proxy != nil {
		stack.start(background, func(ctx context.Context) { p.proxy.Serve(ctx, p.proxyEnd) })
	}
	stack.start(background, p.sink.Run)
	stack.start(background, n.keepImage)
	stack.start(background, func(ctx context.Context) { n.keepSuites(ctx, p) })
	stack.start(background, func(ctx context.Context) { n.keepKeys(ctx, p) })
	stack.start(background, p.personas.Run)
	stack.start(background, func(ctx context.Context) { p.own.keep(ctx, p.come, p.hosts) })
	stack.start(background, p.pots.Run)
	if p.door != nil {
		stack.start(background, p.door.Run)
	}
	stack.start(background, p.front.Run)
	stack.push(func() {
		if err := p.gate.Close(); err != nil {
			n.log.ErrorContext(background, "the gate of the endpoints is not removed", "error", err)
		}
	})
	stack.start(background, p.gate.Run)
	p.sync(n.log)

	stop, err := n.o.Bus.ServeLeases(n.o.Name, func(ctx context.Context, req event.LeaseRequest) event.LeaseReply {
		return p.answer(ctx, req, n.log)
	})
	if err != nil {
		return fmt.Errorf("serve lease requests: %w", err)
	}
	stack.push(stop)
	stop, err = n.o.Bus.ServeEvidence(n.o.Name, p.evidence)
	if err != nil {
		return fmt.Errorf("serve evidence: %w", err)
	}
	stack.push(stop)
	n.report(ctx, p)
	return nil
}

func (n *Node) saveUsage(ctx context.Context, p *parts) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := p.vault.Save(); err != nil {
				n.log.WarnContext(ctx, "use of disk", "error", err)
			}
		}
	}
}

// Cleanup removes what a node leaves on the machine: its pots with all they hold, their namespace, its door, and
// the rules of its endpoints. The state folder stays. The node must not run.
func Cleanup(ctx context.Context, o Options) error {
	errs := []error{gate.Remove(o.NetNS, o.Table)}
	d, err := engine.New(engine.Options{Host: o.Engine, Node: o.Name, Log: o.Log})
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer d.Close() //nolint:errcheck // idle connections
	pots, err := d.List(ctx)
	errs = append(errs, err)
	for _, p := range pots {
		errs = append(errs, d.Remove(ctx, p.ID))
	}
	errs = append(errs, d.RemoveDoors(ctx), os.RemoveAll(doorDir(o.Name)))
	for dir := filepath.Dir(doorDir(o.Name)); dir != "/run"; dir = filepath.Dir(dir) {
		_ = os.Remove(dir) // unless somebody else has something in it
	}
	if o.Namespace == "" {
		o.Namespace = NamespaceOf(o.Name)
	}
	return errors.Join(append(errs, egress.Remove(o.Namespace))...)
}

// Stats are a node's counters since its start.
type Stats struct {
	Front    front.Counts
	Open     int // sessions
	Pots     pool.Counts
	Overflow OverflowCounts
	Vault    record.VaultCounts
	Watch    watch.Counts
	Waiting  int // session records for the server
	Told     uint64
	Dropped  uint64 // session records
	Mended   uint64 // times that the gate was made anew
	Egress   sink.Counts
	Calls    int            // connections of pots that are open
	NoWay    egress.Dropped // packets of pots
	Leases   int
	PotsHeld int
}

// Stats returns the node's counters; zero where it does not run.
func (n *Node) Stats() Stats {
	n.mu.Lock()
	p := n.parts
	n.mu.Unlock()
	if p == nil {
		return Stats{}
	}
	s := Stats{
		Pots: p.pots.Counts(), Overflow: p.over.Counts(), Vault: p.vault.Counts(), Watch: p.watch.Counts(), Mended: p.gate.Mended(),
		Leases: len(p.book.Leases()), PotsHeld: len(p.pots.List()),
	}
	s.Front, s.Open = p.front.Counts()
	s.Egress, s.Calls = p.sink.Counts()
	s.NoWay, _ = p.net.Dropped()
	s.Waiting, s.Told, s.Dropped = p.outbox.Pending()
	return s
}

// shutdown ends what was started, the last first.
type shutdown struct{ ends []func() }

func (s *shutdown) push(end func()) { s.ends = append(s.ends, end) }

// start runs fn in the background; its end cancels fn's context and waits for it.
func (s *shutdown) start(ctx context.Context, fn func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(ctx)
	}()
	s.push(func() { cancel(); <-done })
}

func (s *shutdown) unwind() {
	for _, end := range slices.Backward(s.ends) {
		end()
	}
	s.ends = nil
}
