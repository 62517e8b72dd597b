package honeypot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/door"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/entry"
	"github.com/kokkuri/kokkuri/internal/honeypot/hostkeys"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
	"github.com/kokkuri/kokkuri/internal/honeypot/persona"
)

// What speaks SSH with attackers.
const (
	FrontOpenSSH = "openssh" // the system's own sshd, in a door
	FrontBuiltin = "builtin" // a library in this process: cheaper, and told from OpenSSH by one packet
	FrontAuto    = "auto"    // OpenSSH, and the builtin one above a load
)

const defaultAtDoor = 500

// doorDir is what a node shares with its door. The path of a socket is short.
func doorDir(node string) string { return filepath.Join("/run/kokkuri/door", node) }

// speaker returns what speaks SSH with attackers.
func (n *Node) speaker(p *parts, e *entry.Entry, builtin front.Handler) (front.Handler, error) { //nolint:ireturn // there are three
	switch n.o.SSH.Front {
	case FrontBuiltin:
		return builtin, nil
	case "", FrontOpenSSH, FrontAuto:
	default:
		return nil, fmt.Errorf("front of SSH: %q; it has to be %s, %s or %s", n.o.SSH.Front, FrontOpenSSH, FrontBuiltin, FrontAuto)
	}
	var err error
	p.door, err = door.New(door.Options{
		Entry: e, Engine: p.engine, Dir: doorDir(n.o.Name), Methods: n.o.SSH.Methods, FailDelay: n.o.SSH.FailDelay, Idle: n.o.Idle, Log: n.log,
		HostKeys: p.doorKeys,
		Persona:  func(k event.PotKey) event.PersonaSSH { return p.persona(k).SSH },
		Suite:    func(k event.PotKey) string { return n.doorSuite(p, k) },
		Network:  networkOf,
		Spec:     func(ctx context.Context, suite string) (engine.DoorSpec, error) { return n.doorSpec(ctx, p, suite) },
	})
	if err != nil {
		return nil, err
	}
	p.choice = &choice{door: p.door, builtin: builtin, full: p.over.builtin, sides: make(map[event.PotKey]*side)}
	if n.o.SSH.Front == FrontAuto {
		p.choice.fault, p.choice.most = p.door.Fault, cmp.Or(n.o.SSH.AtDoor, defaultAtDoor)
	}
	return p.choice, nil
}

func (n *Node) doorSpec(ctx context.Context, p *parts, suite string) (engine.DoorSpec, error) {
	s := engine.DoorSpec{Image: n.o.SSH.Door, Resolver: p.net.Gateway(), Memory: n.o.SSH.DoorMemory}
	if s.Image == "" {
		s.Image = tagOf(DoorImage, suite)
		progress := &lineLogger{log: func(line string) { n.log.DebugContext(ctx, "image of the door", "output", line) }}
		if err := BuildDoor(ctx, p.engine, suite, progress); err != nil {
			return s, fmt.Errorf("image of the door: %w", err)
		}
	}
	return s, nil
}

// doorSuite is which of Debian's suites an attacker's host has. An image that was given serves all.
func (n *Node) doorSuite(p *parts, k event.PotKey) string {
	if n.o.SSH.Door != "" {
		return engine.DefaultSuite
	}
	suite, _ := persona.SuiteOf(p.persona(k).OS)
	return suite
}

// doorKeys are the SSH host keys that an attacker sees: the host's own where its operator gives them out. The door has no
// pot in it.
func (p *parts) doorKeys(k event.PotKey) ([]hostkeys.File, error) {
	if own := p.own.files(k.Host); len(own) > 0 {
		return own, nil
	}
	return p.keys.FilesOf(k, k.Host, p.persona(k).SSH.HostKeys)
}

// networkOf opens a pot's network namespace. A pot that ends may give its first process's number to another program.
func networkOf(stay front.Stay) (*os.File, error) {
	id, pid := stay.Pot().ID, stay.PID()
	ns, err := netns.OpenPID(pid)
	if err != nil {
		return nil, err
	}
	defer ns.Close()           //nolint:errcheck // a handle
	if !engine.Runs(id, pid) { // looked at when it is open: what is open stays
		return nil, engine.ErrGone
	}
	if same, err := ns.Same(nil); err != nil || same {
		return nil, errors.Join(err, fmt.Errorf("pot %s is not in a network of its own", id))
	}
	return ns.Share()
}

// doorFindings says what is wrong with the door.
func (p *parts) doorFindings() []event.Finding {
	var out []event.Finding
	if p.door != nil {
		// That the engine does not answer is told already.
		if err := p.door.Fault(); err != nil && !errors.Is(err, engine.ErrUnreachable) {
			out = append(out, event.Finding{
				Level: "error", Subject: "door of SSH", Text: err.Error(),
				Mend: "until it is up attackers wait, and then find the connection closed; honeypot.ssh.front: builtin does without it",
			})
		}
	}
	if p.choice != nil {
		if away, most := p.choice.turnedAway(); away > 0 {
			out = append(out, event.Finding{
				Level: "warning", Subject: "door of SSH",
				Text: fmt.Sprintf("%d attackers meet the builtin front: there were %d connections at the door, or there was none", away, most),
				Mend: "raise honeypot.ssh.at_door, give the machine more memory, or add a node",
			})
		}
	}
	return out
}

// choice has OpenSSH speak with as many as it is meant for, and the builtin front with the others, and with those for whom
// there is no pot. Whoever met one of them meets no other as long as it has a lease: it could compare.
type choice struct {
	door, builtin front.Handler
	full          func(event.PotKey) bool // there is no pot, and the builtin front is what is met instead
	fault         func() error            // of the door, where the builtin front stands in for it; else nil
	most          int                     // connections at the door; any number where 0

	mu    sync.Mutex
	here  int // connections at the door
	sides map[event.PotKey]*side
}

// side is which of both an attacker meets, and why.
type side struct{ builtin, full bool }

// Serve implements front.Handler.
func (c *choice) Serve(ctx context.Context, v *front.Visit) string {
	if !c.enter(v.Lease.PotKey()) {
		return c.builtin.Serve(ctx, v)
	}
	defer c.leave()
	return c.door.Serve(ctx, v)
}

func (c *choice) enter(k event.PotKey) bool {
	full, away := c.full(k), c.fault != nil && c.fault() != nil
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sides[k]
	if s == nil {
		s = &side{builtin: full || away || c.most > 0 && c.here >= c.most, full: full}
		c.sides[k] = s
	}
	if s.builtin {
		return false
	}
	c.here++
	return true
}

func (c *choice) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.here--
}

func (c *choice) forget(k event.PotKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sides, k)
}

// turnedAway counts the attackers that meet the builtin front though there may be a pot for them.
func (c *choice) turnedAway() (attackers, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sides {
		if s.builtin && !s.full {
			attackers++
		}
	}
	return attackers, c.most
}
