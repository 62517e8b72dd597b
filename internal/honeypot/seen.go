package honeypot

import (
	"context"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/honeypot/watch"
)

const (
	lingers    = 200 * time.Millisecond // what happens so long after a session's end is still its own
	seenWithin = 5 * time.Second        // what it did last is noted
)

// ProbeWatch says how programs in pots would be seen on this machine, as honeypot.watch asks for it.
func ProbeWatch(how string) event.Finding { return watch.Probe(watch.Mode(how)) }

// openWatch opens what sees what programs in pots do.
func (n *Node) openWatch(p *parts) (err error) {
	p.watch, err = watch.New(watch.Options{Mode: n.o.Watch, Note: p.seen, Keep: p.vault.Keep, Log: n.log})
	return err
}

// seen records what a program in a pot did.
func (p *parts) seen(k event.PotKey, container string, e event.Evidence) {
	if e.Ending != nil && !p.homes.Open(k) {
		return // the last that is left of a session, as its server's end, is worth none of its own
	}
	p.homes.With(event.Pot{ID: container, Name: container, Attacker: k.Attacker, Host: k.Host}, func(r *record.Recorder) { r.NoteSeen(e) })
}

// woken has a pot watched before anybody gets into it.
func (p *parts) woken(k event.PotKey, id string, pid int, created time.Time) {
	p.watch.Add(watch.Pot{Key: k, ID: id, PID: pid, Created: created})
}

// entered notes that a session has reached a pot. What programs there did until it leaves is the session's.
func (p *parts) entered(k event.PotKey, r *record.Recorder) (left func()) {
	leave := p.homes.Enter(k, r)
	return func() {
		// The pot's server notes down that the session is over.
		timer := time.NewTimer(lingers)
		<-timer.C
		ctx, cancel := context.WithTimeout(context.Background(), seenWithin)
		defer cancel()
		_ = p.watch.Flush(ctx, k) // what comes later is told apart from the session
		leave()
	}
}
