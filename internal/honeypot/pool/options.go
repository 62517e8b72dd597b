package pool

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// Engine is what runs containers.
type Engine interface {
	Containers
	Rest
}

// Rest is how containers are put to rest: frozen, by their first process, or stopped.
type Rest interface {
	Stop(ctx context.Context, id string) error
	Freeze(ctx context.Context, id string, pid int) error
	Thaw(ctx context.Context, id string, pid int) error
	Unpause(ctx context.Context, id string) error
}

// Containers are what an engine has.
type Containers interface {
	Create(ctx context.Context, s engine.Spec) (id string, err error)
	Start(ctx context.Context, id string) error
	Inspect(ctx context.Context, id string) (c engine.Container, found bool, err error)
	List(ctx context.Context) ([]engine.Container, error)
	Remove(ctx context.Context, id string) error
	Watch(ctx context.Context, fn func(engine.Change))
}

// Network is what pots are wired into.
type Network interface {
	Wiring
	Reach
}

// Wiring joins pots to the network.
type Wiring interface {
	Wire(p egress.Port) error
	Wired(p egress.Port) (bool, error)
	Sweep(keep func(pot string) bool) error
}

// Reach is the way to pots.
type Reach interface {
	Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	DialAs(ctx context.Context, attacker netip.Prefix, place int, port uint16) (net.Conn, error)
	Address(index int) netip.Addr
	Gateway() netip.Addr
}

// PotsOptions configure the pots of a node.
type PotsOptions struct {
	Life

	Node     string
	Engine   Engine
	Disk     Disk // nil: nobody looks at what pots write
	Network  Network
	Capacity int   // how many addresses the network has
	MaxPots  int   // 256 where 0
	Starts   int   // how many start at once; 4 where 0
	MaxDisk  int64 // bytes that a pot may write; 1 GiB where 0
	Limits   engine.Limits
	// Image returns the image for new pots, when it is there.
	Image func(ctx context.Context) (string, error)
	// ImageFor returns the image for an attacker's new pot; Image where nil.
	ImageFor func(ctx context.Context, k event.PotKey) (string, error)
	// Fits tells whether an attacker can have a pot that waits, of this image; everyone can where nil. It must not wait.
	Fits func(k event.PotKey, image string) bool
	// Wanted tells which pots have a lease, or had one a short while ago; the others are removed.
	Wanted func(event.PotKey) bool
	// Leased tells which pots have a lease; the others go first where the node is full. Wanted where nil.
	Leased func(event.PotKey) bool
	// Run runs a command in a pot over a connection to its SSH server, which is Run's from then on, and
	// returns when the command has ended. Without it only those services are there that start with the pot.
	Run func(ctx context.Context, conn net.Conn, command string) error
	// Ask has the first process of a pot run a command, and returns when that has ended; Run is used where Ask is nil,
	// or the process is none of ours.
	Ask func(ctx context.Context, id string, pid int, command string) error
	// Changed is called when a pot changed.
	Changed func()

	File       string        // where it is kept whose pots they are; nowhere where empty
	Warm       int           // pots that wait, started and frozen, for attackers
	KeepFree   int64         // bytes of memory that these leave free; no bound where 0
	PauseAfter time.Duration // without anybody in it a pot is frozen; 5 minutes where 0
	StopAfter  time.Duration // and stopped; an hour where 0
	Meminfo    string        // /proc/meminfo where empty
	Log        *slog.Logger
}

// Life is what others do at the stations of a pot's life, in their order. Each may be nil.
type Life struct {
	// Guise decides what the kernel tells a pot, from its start on; owner tells whose it is, nobody's as long as it
	// waits for an attacker.
	Guise func(ctx context.Context, id string, pid int, owner func() event.PotKey) error
	// Dress makes a pot its attacker's machine: when it gets its owner, and at each start after that.
	Dress func(ctx context.Context, d Dressing) error
	// Woken is told of a pot's first process before anybody is let into the pot, at least once for each.
	Woken func(k event.PotKey, id string, pid int, created time.Time)
	// Died is told of containers that have ended.
	Died func(id string)
	// Archive keeps what an attacker has changed in a pot that is about to be removed; none of its processes runs
	// meanwhile. Where it fails the pot stays, and is removed later.
	Archive func(ctx context.Context, k event.PotKey, id string) error
	// Removed is called when an attacker's pot is gone.
	Removed func(event.PotKey)
}

// Dressing is a pot that is to be made its attacker's machine.
type Dressing struct {
	event.PotKey

	ID      string // of the container
	Image   string
	PID     int // of its first process
	Address netip.Addr
	First   bool // it was nobody's before
	Guised  bool // its first process is one of ours
}
