package record

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	homeIdle = 10 * time.Minute // without evidence a pot's own session ends
	homeTick = time.Minute

	// PotQuiet is why a pot's own session ended.
	PotQuiet = "nothing more came"
	// PotGone is why it ended with its pot.
	PotGone = "pot removed"
)

var errHomesClosed = errors.New("the node is stopping")

// HomesOptions configure Homes.
type HomesOptions struct {
	Node    string
	Vault   *Vault
	Session func(event.Session) error // is told of sessions that open and close
	Target  func(event.PotKey) event.Target
	Idle    time.Duration // that ends a pot's own session; 10 minutes where 0
	Log     *slog.Logger
}

// Homes are where evidence goes that a pot leaves by itself: into the attacker's session that reached the pot
// last, while it is open; else, as when a crontab wakes up, into a session of the pot's own. Its methods may
// be called concurrently.
type Homes struct {
	o   HomesOptions
	log *slog.Logger

	mu     sync.Mutex
	visits map[event.PotKey][]*Recorder // the newest last
	own    map[event.PotKey]*home
	closed bool
}

// home is a pot's own session.
type home struct {
	session event.Session
	rec     *Recorder
	last    time.Time
}

// NewHomes returns Homes; Run ends the sessions that are quiet, and at its end all.
func NewHomes(o HomesOptions) *Homes {
	if o.Idle == 0 {
		o.Idle = homeIdle
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Homes{o: o, log: o.Log, visits: make(map[event.PotKey][]*Recorder), own: make(map[event.PotKey]*home)}
}

// Enter says that a session reached a pot; left is called before its recording ends.
func (h *Homes) Enter(k event.PotKey, r *Recorder) (left func()) {
	if r == nil {
		return func() {}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.visits[k] = append(h.visits[k], r)
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.visits[k] = slices.DeleteFunc(h.visits[k], func(x *Recorder) bool { return x == r }); len(h.visits[k]) == 0 {
			delete(h.visits, k)
		}
	})
}

// Open reports whether there is a session that evidence of a pot goes into.
func (h *Homes) Open(k event.PotKey) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.visits[k]) > 0 || h.own[k] != nil
}

// Note keeps a piece of evidence of a pot.
func (h *Homes) Note(p event.Pot, e event.Evidence) {
	h.With(p, func(r *Recorder) { r.NoteSeen(e) })
}

// With has fn record what a pot did, quickly. It does not fail: where nothing can be recorded fn gets nil, which
// records nothing.
func (h *Homes) With(p event.Pot, fn func(*Recorder)) {
	k := event.PotKey{Attacker: p.Attacker, Host: p.Host}
	h.mu.Lock()
	defer h.mu.Unlock() // until it is recorded: who leaves then waits, and loses nothing
	if v := h.visits[k]; len(v) > 0 {
		fn(v[len(v)-1])
		return
	}
	h.withOwnLocked(k, p, fn)
}

// WithOwn does the same with the pot's own session, whoever is there: for what belongs to the pot, not to a visit.
func (h *Homes) WithOwn(p event.Pot, fn func(*Recorder)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.withOwnLocked(event.PotKey{Attacker: p.Attacker, Host: p.Host}, p, fn)
}

func (h *Homes) withOwnLocked(k event.PotKey, p event.Pot, fn func(*Recorder)) {
	own, err := h.ownLocked(k, p)
	if err != nil && !errors.Is(err, errHomesClosed) {
		h.log.Error("what a pot did is not recorded", "pot", p.Name, "error", err)
	}
	fn(own)
}

// ownLocked finds or begins a pot's own session.
func (h *Homes) ownLocked(k event.PotKey, p event.Pot) (*Recorder, error) {
	now := time.Now()
	if x := h.own[k]; x != nil {
		x.last = now
		return x.rec, nil
	}
	if h.closed {
		return nil, errHomesClosed
	}
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails
	s := event.Session{
		ID: hex.EncodeToString(id[:]), Node: h.o.Node, Host: k.Host, Service: event.ServicePot, Attacker: k.Attacker,
		PotID: p.ID, StartedAt: now,
	}
	if h.o.Target != nil {
		s.Target = h.o.Target(k)
	}
	if err := h.o.Session(s); err != nil {
		return nil, err
	}
	rec, err := h.o.Vault.Begin(recording.Header{
		Session: s.ID, Node: s.Node, Host: s.Host, Service: s.Service, Attacker: s.Attacker, Target: s.Target, StartedAt: now,
	})
	if err != nil {
		s.EndedAt, s.Reason, s.Truncated = now, err.Error(), true
		return nil, errors.Join(err, h.o.Session(s))
	}
	h.own[k] = &home{session: s, rec: rec, last: now}
	return rec, nil
}

// Gone ends a pot's own session.
func (h *Homes) Gone(k event.PotKey) {
	h.mu.Lock()
	x := h.own[k]
	delete(h.own, k)
	h.mu.Unlock()
	h.end(x, PotGone)
}

// Run ends sessions that are quiet, until ctx is done, and then all.
func (h *Homes) Run(ctx context.Context, reason string) {
	tick := time.NewTicker(min(homeTick, h.o.Idle))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			h.mu.Lock()
			h.closed = true
			h.mu.Unlock()
			h.endQuiet(time.Time{}, reason)
			return
		case now := <-tick.C:
			h.endQuiet(now, PotQuiet)
		}
	}
}

// endQuiet ends the sessions that were quiet for a while; all of them where now is zero.
func (h *Homes) endQuiet(now time.Time, reason string) {
	var quiet []*home
	h.mu.Lock()
	for k, x := range h.own {
		if now.IsZero() || now.Sub(x.last) >= h.o.Idle {
			quiet = append(quiet, x)
			delete(h.own, k)
		}
	}
	h.mu.Unlock()
	for _, x := range quiet {
		h.end(x, reason)
	}
}

func (h *Homes) end(x *home, reason string) {
	if x == nil {
		return
	}
	s := x.session
	var err error
	s.Reason = reason
	if s.Recording, s.Truncated, err = x.rec.Close(reason); err != nil {
		h.log.Error("recording is lost", "session", s.ID, "error", err)
	}
	s.EndedAt = time.Now()
	if err := h.o.Session(s); err != nil {
		h.log.Error("session record is not kept", "session", s.ID, "error", err)
	}
	h.o.Vault.Forget(s.ID)
}
