package record

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	defaultIdle = time.Hour
	chapterTick = time.Minute

	// What is told of a pot may be so much of a session's evidence, so that what its attacker types is kept, however
	// much it has run.
	maxPotNotes     = maxNotes / 2
	maxPotNoteBytes = maxNoteBytes / 2

	// ChapterClosed is why a pot's own session ended: somebody came.
	ChapterClosed = "a session began"
	// ChapterIdle is why it ended where nothing happened for long.
	ChapterIdle = "nothing happened any more"
	// PotGone is why it ended with its pot.
	PotGone = "pot gone"
)

// ChronicleOptions say where what happens in pots is recorded.
type ChronicleOptions struct {
	Node    string
	Vault   *Vault
	Session func(event.Session) error // is told of each session of a pot's own when it opens and when it has closed
	Idle    time.Duration             // after which such a session ends; an hour where 0
	Log     *slog.Logger
}

// Chronicle finds where that belongs which happens in a pot and is not of a connection: to the session that came last
// of those that are open in the pot; while none is, to a session of the pot's own, of the service event.InPot, which
// begins with what is noted and ends when somebody comes, when nothing happens any more, and with the pot. Its methods
// may be called concurrently.
type Chronicle struct {
	o   ChronicleOptions
	log *slog.Logger

	mu       sync.Mutex
	chapters map[event.PotKey]*chapter
}

// chapter is what is being recorded of one pot.
type chapter struct {
	mu     sync.Mutex
	visits []*account
	own    *account
	s      event.Session // own's
}

// account is a recording with what was noted there of the pot.
type account struct {
	rec    *Recorder
	notes  int
	bytes  int
	missed event.Missed
	last   time.Time
}

// NewChronicle returns an empty one.
func NewChronicle(o ChronicleOptions) *Chronicle {
	if o.Idle == 0 {
		o.Idle = defaultIdle
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Chronicle{o: o, log: o.Log, chapters: make(map[event.PotKey]*chapter)}
}

// Visit says that a session has reached a pot; left has to be called before its recording is closed.
func (c *Chronicle) Visit(k event.PotKey, rec *Recorder) (left func()) {
	if rec == nil {
		return func() {}
	}
	ch := c.chapter(k)
	a := &account{rec: rec}
	ch.mu.Lock()
	c.closeOwn(ch, ChapterClosed)
	ch.visits = append(ch.visits, a)
	ch.mu.Unlock()
	return func() {
		ch.mu.Lock()
		defer ch.mu.Unlock()
		a.settle()
		for i, v := range ch.visits {
			if v == a {
				ch.visits = append(ch.visits[:i], ch.visits[i+1:]...)
				break
			}
		}
	}
}

// Note records a piece of evidence of a pot, whose container is given by its id.
func (c *Chronicle) Note(k event.PotKey, container string, e event.Evidence) {
	ch := c.chapter(k)
	ch.mu.Lock()
	defer ch.mu.Unlock()
	a := ch.own
	if n := len(ch.visits); n > 0 {
		a = ch.visits[n-1]
	}
	if a == nil {
		if a = c.begin(ch, k, container); a == nil {
			return
		}
	}
	a.note(e)
}

// Ended ends a pot's own session: the pot is gone.
func (c *Chronicle) Ended(k event.PotKey) {
	c.mu.Lock()
	ch := c.chapters[k]
	delete(c.chapters, k)
	c.mu.Unlock()
	if ch == nil {
		return
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	c.closeOwn(ch, PotGone)
	if len(ch.visits) > 0 { // these go on, with nothing more to be told of the pot
		for _, a := range ch.visits {
			a.settle()
		}
	}
}

// Run ends what nothing is added to any more; when ctx is done, all of it, for reason.
func (c *Chronicle) Run(ctx context.Context, reason string) {
	tick := time.NewTicker(min(chapterTick, max(c.o.Idle/2, time.Millisecond)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.each(func(ch *chapter) { c.closeOwn(ch, reason) })
			return
		case <-tick.C:
			c.each(func(ch *chapter) {
				if ch.own != nil && time.Since(ch.own.last) >= c.o.Idle {
					c.closeOwn(ch, ChapterIdle)
				}
			})
		}
	}
}

func (c *Chronicle) each(fn func(*chapter)) {
	c.mu.Lock()
	all := make(map[event.PotKey]*chapter, len(c.chapters))
	for k, ch := range c.chapters {
		all[k] = ch
	}
	c.mu.Unlock()
	for _, ch := range all {
		ch.mu.Lock()
		fn(ch)
		ch.mu.Unlock()
	}
}

func (c *Chronicle) chapter(k event.PotKey) *chapter {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.chapters[k]
	if ch == nil {
		ch = &chapter{}
		c.chapters[k] = ch
	}
	return ch
}

// begin opens a session of the pot's own. The chapter is locked.
func (c *Chronicle) begin(ch *chapter, k event.PotKey, container string) *account {
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails
	ch.s = event.Session{
		ID: hex.EncodeToString(id[:]), Node: c.o.Node, Host: k.Host, Service: event.InPot, Attacker: k.Attacker,
		PotID: container, StartedAt: time.Now(),
	}
	c.keep(ch.s)
	rec, err := c.o.Vault.Begin(recording.Header{
		Session: ch.s.ID, Node: ch.s.Node, Host: ch.s.Host, Service: ch.s.Service, Attacker: ch.s.Attacker, StartedAt: ch.s.StartedAt,
	})
	if err != nil {
		c.log.Error("what happens in a pot is not recorded", "pot", container, "error", err)
		ch.s.EndedAt, ch.s.Truncated, ch.s.Reason = time.Now(), true, "not recorded"
		c.keep(ch.s)
		return nil
	}
	ch.own = &account{rec: rec, last: time.Now()}
	return ch.own
}

// closeOwn ends the session of the pot's own, if there is one. The chapter is locked.
func (c *Chronicle) closeOwn(ch *chapter, reason string) {
	a := ch.own
	if a == nil {
		return
	}
	ch.own = nil
	a.settle()
	var err error
	ch.s.Reason = reason
	if ch.s.Recording, ch.s.Truncated, err = a.rec.Close(reason); err != nil {
		c.log.Error("recording is lost", "session", ch.s.ID, "error", err)
	}
	ch.s.EndedAt = time.Now()
	c.keep(ch.s)
	c.o.Vault.Forget(ch.s.ID)
}

func (c *Chronicle) keep(s event.Session) {
	if err := c.o.Session(s); err != nil {
		c.log.Error("session record is not kept", "session", s.ID, "error", err)
	}
}

// note records a piece of evidence, or counts it where there were too many.
func (a *account) note(e event.Evidence) {
	a.last = time.Now()
	switch {
	case a.notes < maxPotNotes && a.bytes < maxPotNoteBytes || e.Archive != nil:
		a.notes++
		a.bytes += weight(e)
		a.rec.Note(e)
	case e.Execution != nil:
		a.missed.Executions++
	case e.Connection != nil:
		a.missed.Connections++
	case e.Write != nil:
		a.missed.Writes++
	case e.Missed != nil:
		a.missed.Executions += e.Missed.Executions
		a.missed.Connections += e.Missed.Connections
		a.missed.Writes += e.Missed.Writes
	}
}

// weight is about how large a piece of evidence is.
func weight(e event.Evidence) int {
	const rest = 256
	n := rest
	switch {
	case e.Execution != nil:
		n += len(e.Execution.Path) + len(e.Execution.Dir) + len(e.Execution.Script)
		for _, arg := range e.Execution.Args {
			n += 4*len(arg) + 4 // at most: what is not printable takes four bytes
		}
	case e.Write != nil:
		n += len(e.Write.Path)
	case e.Change != nil:
		n += len(e.Change.Path) + len(e.Change.Target)
	}
	return n
}

// settle tells what was too much for the recording.
func (a *account) settle() {
	if a.missed.Sum() > 0 {
		missed := a.missed
		a.rec.Note(event.Evidence{Kind: event.EvidenceMissed, Missed: &missed, Reason: "the session holds no more of what happens in its pot"})
		a.missed = event.Missed{}
	}
}
