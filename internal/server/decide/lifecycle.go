package decide

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Manual is the rule of redirects that an operator asked for.
const Manual = "manual"

// ErrRefused says that a redirect by hand may not be.
var ErrRefused = errors.New("refused")

// ByHand is a redirect that an operator asks for.
type ByHand struct {
	Source  netip.Prefix
	Service event.Service
	Host    string
	TTL     time.Duration
	Egress  event.EgressPolicy // of the pot; empty: the node's default
	Spare   []netip.AddrPort   // connections that go on to the host
}

// Add redirects a source by hand. The allow-list and the protected addresses hold for it as well.
func (d *Decider) Add(ctx context.Context, by ByHand) (event.Redirect, error) {
	host, source, service := by.Host, by.Source, by.Service
	if why := d.protected(host, source); why != "" {
		return event.Redirect{}, fmt.Errorf("%w: %s", ErrRefused, why)
	}
	if d.opts.Hosts.Port(host, service) == 0 {
		return event.Redirect{}, fmt.Errorf("%w: host %s has no service %s (kokkuri hosts show %s)", ErrRefused, host, service, host)
	}
	if d.allow.Covers(source) {
		return event.Redirect{}, fmt.Errorf("%w: the allow-list covers %s (kokkuri allow ls)", ErrRefused, source)
	}
	if d.paused.Load() {
		return event.Redirect{}, fmt.Errorf("%w: paused (kokkuri resume)", ErrRefused)
	}
	if r, ok := d.board.Find(host, source, service); ok {
		return event.Redirect{}, fmt.Errorf("%w: %s is redirected already, by %s until %s (kokkuri redirects rm %s)",
			ErrRefused, source, r.Rule, r.ExpiresAt.UTC().Format(time.RFC3339), r.ID)
	}
	now := d.now()
	r := event.Redirect{
		ID: "m" + rand.Text()[:16], Source: source, Host: host, Service: service, Port: d.opts.Hosts.Port(host, service),
		Rule: Manual, State: event.Pending, CreatedAt: now, ExpiresAt: now.Add(by.TTL), Spare: by.Spare, Egress: by.Egress,
	}
	d.grant(ctx, &r)
	_, why, err := d.enact([]event.Redirect{r}, func([]event.Redirect) (bool, error) { return true, d.opts.Store.SaveRedirect(ctx, r) })
	if err != nil || why != "" {
		d.releaseLater(r)
	}
	if err != nil {
		return event.Redirect{}, fmt.Errorf("store redirect of %s: %w", source, err)
	}
	if why != "" {
		return event.Redirect{}, fmt.Errorf("%w: %s", ErrRefused, why)
	}
	d.log.InfoContext(ctx, "redirect by hand", "source", source, "host", host, "service", service, "redirect", r.ID)
	return r, nil
}

// Release ends the live redirects that a filter wants, and returns them as they then are.
func (d *Decider) Release(ctx context.Context, want func(event.Redirect) bool, reason string) ([]event.Redirect, error) {
	d.life.Lock()
	live := d.board.Live(want)
	d.life.Unlock()
	out := []event.Redirect{}
	var errs []error
	for _, r := range live {
		r, ended, err := d.end(ctx, r.ID, event.Released, reason)
		if err != nil {
			errs = append(errs, err)
		} else if ended {
			out = append(out, r)
		}
	}
	return out, errors.Join(errs...)
}

// Pause releases everything and redirects nothing until Resume.
func (d *Decider) Pause(ctx context.Context) ([]event.Redirect, error) {
	d.paused.Store(true) // what is under way sees it before it is enacted
	d.log.WarnContext(ctx, "paused: every redirect is released")
	return d.Release(ctx, nil, "paused")
}

// Resume lets redirects be made again, and closes the breakers.
func (d *Decider) Resume() {
	d.paused.Store(false)
	d.breaker.Reset()
	d.log.Info("resumed")
}

// Applied notes what became of redirects in a host's kernel.
func (d *Decider) Applied(ctx context.Context, host string, applied []event.Applied) error {
	var errs []error
	for _, a := range applied {
		r, ok := d.board.Get(a.ID)
		if !ok || r.Host != host {
			continue
		}
		if a.State == event.Released {
			_, _, err := d.end(ctx, a.ID, event.Released, a.Reason)
			errs = append(errs, err)
			continue
		}
		errs = append(errs, d.note(ctx, a))
	}
	return errors.Join(errs...)
}

// note stores that a redirect is active or refused.
func (d *Decider) note(ctx context.Context, a event.Applied) error {
	d.life.Lock()
	defer d.life.Unlock()
	r, ok := d.board.Get(a.ID)
	if !ok || a.State != event.Active && a.State != event.Refused || r.State == a.State && r.Reason == a.Reason {
		return nil
	}
	if r.State = a.State; a.State == event.Active && r.AppliedAt.IsZero() {
		r.AppliedAt = a.At
	}
	if r.Reason = a.Reason; a.State == event.Refused {
		d.log.WarnContext(ctx, "redirect refused by its host", "host", r.Host, "source", r.Source, "redirect", r.ID, "reason", a.Reason)
	}
	if err := d.opts.Store.SaveRedirect(ctx, r); err != nil {
		return fmt.Errorf("store redirect %s: %w", r.ID, err)
	}
	d.board.Note(r)
	return nil
}

// end ends a redirect; false where it has ended already.
func (d *Decider) end(ctx context.Context, id string, s event.State, reason string) (event.Redirect, bool, error) {
	r, ok, err := d.strike(ctx, id, s, reason)
	if !ok {
		return r, false, err
	}
	d.releaseLater(r)
	d.opts.Ended(r) // takes the pipeline's lock, so not under ours
	d.log.InfoContext(ctx, "redirect ended", "redirect", r.ID, "source", r.Source, "host", r.Host, "state", s, "reason", reason)
	return r, true, nil
}

// strike takes a redirect off store and board and tells its host.
func (d *Decider) strike(ctx context.Context, id string, s event.State, reason string) (event.Redirect, bool, error) {
	d.life.Lock()
	defer d.life.Unlock()
	r, ok := d.board.Get(id)
	if !ok {
		return r, false, nil
	}
	r.State, r.Reason = s, reason
	if err := d.opts.Store.SaveRedirect(ctx, r); err != nil {
		return r, false, fmt.Errorf("store redirect %s: %w", r.ID, err)
	}
	if c, ok := d.board.Delete(r.ID); ok {
		d.opts.Notifier.Changed(r.Host, c)
	}
	return r, true, nil
}

func (d *Decider) expire(ctx context.Context) {
	now := d.now()
	for _, r := range d.board.Live(func(r event.Redirect) bool { return !r.ExpiresAt.After(now) }) {
		if _, _, err := d.end(ctx, r.ID, event.Expired, ""); err != nil {
			d.log.ErrorContext(ctx, "expired redirect not stored", "redirect", r.ID, "error", err)
		}
	}
}

// releaseLater has a node release a lease; nobody waits for the node.
func (d *Decider) releaseLater(r event.Redirect) {
	if !r.Endpoint.IsValid() {
		return
	}
	select {
	case d.freed <- freed{r, d.now().Add(leaseLinger)}:
	default: // the node drops it with its next status
	}
}

// leaseLinger is how long a lease outlives its redirect: until the host's kernel has heard of the end,
// connections must still find the node.
const leaseLinger = time.Second

// freed is a redirect whose lease is to be released, and when.
type freed struct {
	event.Redirect

	at time.Time
}

func (d *Decider) releaseLeases(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-d.freed:
			select {
			case <-ctx.Done():
				return
			case <-time.After(r.at.Sub(d.now())):
			}
			// The same attacker's next redirect has the same lease.
			if _, again := d.board.Find(r.Host, r.Source, r.Service); !again {
				d.opts.Leaser.Release(ctx, r.Redirect)
			}
		}
	}
}

// grantMissing gets endpoints for the redirects that have none yet, now and then and when it is woken.
func (d *Decider) grantMissing(ctx context.Context) {
	tick := time.NewTicker(retryLeases)
	defer tick.Stop()
	for {
		for _, r := range d.board.Live(func(r event.Redirect) bool { return !r.Endpoint.IsValid() }) {
			if ctx.Err() != nil {
				return
			}
			d.lease(ctx, r)
		}
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-tick.C:
		}
	}
}

// retryLeases is how often redirects without an endpoint are tried again.
const retryLeases = 5 * time.Second

func (d *Decider) lease(ctx context.Context, r event.Redirect) {
	granted := d.grant(ctx, &r)
	d.life.Lock()
	defer d.life.Unlock()
	if _, ok := d.board.Get(r.ID); !ok { // ended meanwhile
		d.releaseLater(r)
		return
	}
	if !granted {
		d.board.Note(r)
		return
	}
	if err := d.opts.Store.SaveRedirect(ctx, r); err != nil {
		d.log.ErrorContext(ctx, "leased redirect not stored", "redirect", r.ID, "error", err)
		d.releaseLater(r)
		return
	}
	if c, ok := d.board.Replace(r); ok {
		d.opts.Notifier.Changed(r.Host, c)
	}
}
