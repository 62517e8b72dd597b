package honeypot

import (
	"context"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/honeypot/watch"
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
		p.watch.Flush(context.Background(), k)
		leave()
	}
}
