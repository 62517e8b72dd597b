// Package lab is a whole network on one machine, for the demo and the tests: a protected host, an attacker
// and a user as containers on TEST-NET addresses, a server and a honeypot node as processes beside them.
package lab

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/moby/client"

	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// Defaults of Options.
const (
	DefaultStateDir = "/var/lib/kokkuri-lab"
	DefaultSocket   = "/run/kokkuri/server.sock"
)

// The protected host's real account, as the image makes it, and what gets an attacker into its pot: one
// guess is refused, the next is accepted.
const (
	UserAccount  = "user"
	UserPassword = "correct horse battery staple"
	PotAccount   = "root"
	PotDecoy     = "hunter2"
	PotPassword  = "123456"
)

// realMarker is a file that only the real host has.
const realMarker = "/etc/kokkuri-lab"

// Road is the way by which web's log reaches the server.
type Road string

// Roads that the lab can be brought up with.
const (
	RoadAgent   Road = "agent"
	RoadRsyslog Road = "rsyslog"
)

// Options say where the lab keeps its things. The zero value is the lab of `kokkuri lab`.
type Options struct {
	Out      io.Writer // progress for people; discarded where nil
	Bin      string    // folder of kokkuri and kokkuri-agent; the running program's where empty
	Road     Road      // RoadAgent where empty
	StateDir string
	Socket   string // where the lab's server answers
	Engine   string // address of the Docker Engine; it must run on this machine
	Log      *slog.Logger
}

// Lab is the handle to the machines, whether they are up or not.
type Lab struct {
	o     Options
	cli   *client.Client
	build *engine.Docker
	log   *slog.Logger

	Web      *Machine // the protected host
	Attacker *Machine
	User     *Machine

	mu     sync.Mutex
	taken  int // IPv4 addresses handed out by NewSource
	taken6 int // networks handed out by NewSource6
}

// New returns the handle; it changes nothing and does not connect yet.
func New(o Options) (*Lab, error) {
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.StateDir == "" {
		o.StateDir = DefaultStateDir
	}
	if o.Socket == "" {
		o.Socket = DefaultSocket
	}
	if o.Engine == "" {
		o.Engine = engine.DefaultHost
	}
	switch o.Road {
	case "":
		o.Road = RoadAgent
	case RoadAgent, RoadRsyslog:
	default:
		return nil, fmt.Errorf("lab: no such road %q: agent or rsyslog", o.Road)
	}
	if o.Bin == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("lab: find the folder of the binaries: %w", err)
		}
		o.Bin = filepath.Dir(self)
	}
	cli, err := client.New(client.WithHost(o.Engine), client.WithUserAgent("kokkuri-lab"))
	if err != nil {
		return nil, fmt.Errorf("lab: engine address %q: %w", o.Engine, err)
	}
	build, err := engine.New(engine.Options{Host: o.Engine, Node: NodeName, Log: o.Log})
	if err != nil {
		return nil, errors.Join(err, cli.Close())
	}
	l := &Lab{o: o, cli: cli, build: build, log: o.Log}
	l.Web = l.machine(specWeb())
	l.Attacker = l.machine(specAttacker())
	l.User = l.machine(specUser())
	return l, nil
}

// Close ends the connections to the engine; the lab stays as it is.
func (l *Lab) Close() error {
	if err := errors.Join(l.cli.Close(), l.build.Close()); err != nil {
		return fmt.Errorf("lab: close connections to the engine: %w", err)
	}
	return nil
}

// Machines lists the lab's containers.
func (l *Lab) Machines() []*Machine { return []*Machine{l.Web, l.Attacker, l.User} }

func (l *Lab) printf(format string, args ...any) {
	fmt.Fprintf(l.o.Out, format, args...) //nolint:errcheck // progress is for people to look at
}

// steps prints the progress of something that happens in n steps.
type steps struct {
	l    *Lab
	n, i int
}

// do runs one step and prints its number, what it does and how long that took.
func (s *steps) do(what string, fn func() error) error {
	s.i++
	s.l.printf("[%d/%d] %s\n", s.i, s.n, what)
	began := time.Now()
	if err := fn(); err != nil {
		return fmt.Errorf("lab: %s: %w", what, err)
	}
	s.l.printf("      done in %s\n", time.Since(began).Round(time.Millisecond))
	return nil
}

// serverAddrs and nodeAddrs are where the lab's processes listen, on the core network's bridge.
func serverAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8:2::2")}
}

func nodeAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("198.51.100.20"), netip.MustParseAddr("2001:db8:2::20")}
}
