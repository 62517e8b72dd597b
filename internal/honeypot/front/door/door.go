// Package door is a front of SSH whose transport is the system's own sshd: what an attacker meets until it is in, and all
// that it can measure of the protocol, is the real thing. The sshd runs in a container of its own, the door, in which nobody
// ever gets a shell: who gets in is decided here, and what is run is joined with a program in the attacker's pot.
package door

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/entry"
	"github.com/kokkuri/kokkuri/internal/honeypot/hostkeys"
)

const (
	defaultFailDelay = 2 * time.Second
	defaultIdle      = 30 * time.Minute
	doorWithin       = 20 * time.Second // an attacker waits for a door that is being made
	maxChannels      = 256              // connections to agents at once
	maxSuites        = 16
)

// Reasons why a session ended.
const (
	AttackerClosed = "attacker closed"
	Idle           = "idle"
	TooSlow        = "login took too long"
	NotSSH         = "not SSH"
	Refused        = "login refused"
	TooMany        = "too many logins at once"
	DoorClosed     = "door closed: "
)

// Options configure the front.
type Options struct {
	Entry  *entry.Entry
	Engine Engine
	// Spec says what a door of one of Debian's suites is made of, but for its name and its folder.
	Spec func(ctx context.Context, suite string) (engine.DoorSpec, error)
	// Suite is which of Debian's an attacker's host has; nil: all have the same.
	Suite    func(event.PotKey) string
	Dir      string // for the doors' files: a short path
	HostKeys func(event.PotKey) ([]hostkeys.File, error)
	// Network opens the network namespace of a pot, and never another.
	Network func(front.Stay) (*os.File, error)

	// Persona is what an attacker's host shows of its server; nil: the door's own defaults.
	Persona   func(event.PotKey) event.PersonaSSH
	Methods   []string      // entry.Password and entry.Interactive where empty
	Startups  Startups      // 10:30:100 where zero
	FailDelay time.Duration // about how long a wrong password takes, as PAM's; 2 s where 0
	Idle      time.Duration // silence that ends a connection; 30 minutes where 0
	Log       *slog.Logger
}

// Handler is the front. Run has to run for it to let anybody in.
type Handler struct {
	o     Options
	log   *slog.Logger
	lobby *lobby
	come  chan *house // wanted for the first time

	mu     sync.Mutex
	houses map[string]*house // by suite
	room   *anteroom
	words  words
}

var _ front.Handler = (*Handler)(nil)

// New returns a front.
func New(o Options) (*Handler, error) {
	if len(o.Methods) == 0 {
		o.Methods = []string{entry.Password, entry.Interactive}
	}
	if o.Persona == nil {
		o.Persona = func(event.PotKey) event.PersonaSSH { return event.PersonaSSH{} }
	}
	if o.Suite == nil {
		o.Suite = func(event.PotKey) string { return engine.DefaultSuite }
	}
	if o.FailDelay == 0 {
		o.FailDelay = defaultFailDelay
	}
	if o.Idle == 0 {
		o.Idle = defaultIdle
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	room, err := newAnteroom()
	if err != nil {
		return nil, err
	}
	h := &Handler{
		o: o, log: o.Log, lobby: newLobby(), room: room, words: newWords(), come: make(chan *house, maxSuites), houses: make(map[string]*house),
	}
	h.houseOf(engine.DefaultSuite)
	return h, nil
}

// Run keeps the doors open until ctx is done; no session may be open any more then. What an earlier process left goes first,
// what this one has goes at the end.
func (h *Handler) Run(ctx context.Context) {
	if err := h.o.Engine.RemoveDoors(ctx); err != nil {
		h.log.WarnContext(ctx, "doors of an earlier process", "error", err)
	}
	var all sync.WaitGroup
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case house := <-h.come:
			all.Go(func() { house.run(ctx) })
		}
	}
	all.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), helloWithin)
	defer cancel()
	if err := h.o.Engine.RemoveDoors(ctx); err != nil {
		h.log.ErrorContext(ctx, "the door of SSH is not removed", "error", err)
	}
	_ = os.RemoveAll(h.o.Dir)
}

// houseOf returns the door of a suite, which is opened when it is wanted first.
func (h *Handler) houseOf(suite string) *house {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.houses[suite] == nil {
		h.houses[suite] = newHouse(h.o, suite)
		h.come <- h.houses[suite] // has room for all suites
	}
	return h.houses[suite]
}

// Close forgets a front that does not run.
func (h *Handler) Close() { h.room.close() }

// Fault says why somebody can't come in; nil where everybody can.
func (h *Handler) Fault() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, suite := range slices.Sorted(maps.Keys(h.houses)) {
		errs = append(errs, h.houses[suite].fault())
	}
	return errors.Join(errs...)
}

// keysFor has host keys lie where the door finds them, and returns their files there.
func (h *house) keysFor(files []hostkeys.File) ([]string, error) {
	sum := sha256.New()
	for _, f := range files {
		_, _ = sum.Write(f.Data)
	}
	name := hex.EncodeToString(sum.Sum(nil)[:16])
	dir := filepath.Join(h.dir, keysName, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("host keys for the door: %w", err)
	}
	h.mu.Lock()
	shift := int(h.shift)
	h.mu.Unlock()
	var out []string
	for _, f := range files {
		if f.Mode&0o077 != 0 { // public
			continue
		}
		path := filepath.Join(dir, f.Name)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			if err := writeWhole(path, f.Data, shift); err != nil {
				return nil, fmt.Errorf("host keys for the door: %w", err)
			}
		}
		out = append(out, filepath.Join(doorDir, keysName, name, f.Name))
	}
	if shift != 0 {
		_ = os.Chown(dir, shift, shift)
	}
	return out, nil
}

// writeWhole makes a file that is never seen in part.
func writeWhole(path string, data []byte, owner int) error {
	tmp := path + "." + random()
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err //nolint:wrapcheck // the caller says what was done
	}
	if owner != 0 {
		if err := os.Chown(tmp, owner, owner); err != nil {
			return err //nolint:wrapcheck // the caller says what was done
		}
	}
	return os.Rename(tmp, path) //nolint:wrapcheck // the caller says what was done
}

// ends returns where the sshd is to see a connection come from, and go to: the attacker's own address, which is one of a
// network's where the attacker is a network.
func ends(v *front.Visit) (from, to netip.AddrPort) {
	peer, _ := netip.ParseAddrPort(v.Conn.RemoteAddr().String())
	addr := v.Lease.Attacker.Addr()
	if !addr.IsValid() {
		addr = peer.Addr().Unmap()
	} else if p := v.Lease.Attacker; addr.Is6() && !p.IsSingleIP() {
		sum := fnv.New64a()
		_, _ = sum.Write([]byte(v.Lease.ID))
		b := addr.As16()
		copy(b[8:], sum.Sum(nil))
		addr = netip.AddrFrom16(b)
	}
	from = netip.AddrPortFrom(addr, peer.Port())
	if v.Lease.Target.IsValid() && v.Lease.Target.Addr().Is4() == addr.Is4() {
		return from, v.Lease.Target
	}
	if addr.Is4() {
		return from, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 22)
	}
	return from, netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}), 22)
}
