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

// Add redirects a source by hand. The allow-list and the protected addresses hold for it as well.
func (d *Decider) Add(ctx context.Context, source netip.Prefix, service event.Service, host string, ttl time.Duration, spare []netip.AddrPort) (event.Redirect, error) {
	if why := d.protected(host, source); why != "" {
		return event.Redirect{}, fmt.Errorf("%w: %s", ErrRefused, why)
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
		Rule: Manual, State: event.Pending, CreatedAt: now, ExpiresAt: now.Add(ttl), Spare: spare,
	}
	d.grant(ctx, &r)
	if err := d.opts.Store.SaveRedirect(ctx, r); err != nil {
		return event.Redirect{}, fmt.Errorf("store redirect of %s: %w", source, err)
	}
	d.log.InfoContext(ctx, "redirect by hand", "source", source, "host", host, "service", service, "redirect", r.ID)
	return r, d.publish(ctx, r)
}

// Release ends live redirects and returns them as they then are.
func (d *Decider) Release(ctx context.Context, redirects []event.Redirect, reason string) ([]event.Redirect, error) {
	var out []event.Redirect
	var errs []error
	for _, r := range redirects {
		r, err := d.end(ctx, r, event.Released, reason)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, r)
	}
	return out, errors.Join(errs...)
}

// Pause releases everything and redirects nothing until Resume.
func (d *Decider) Pause(ctx context.Context) ([]event.Redirect, error) {
	d.paused.Store(true)
	d.pending.wait() // what was decided before is released with the rest
	d.log.WarnContext(ctx, "paused: every redirect is released")
	return d.Release(ctx, d.board.Live(nil), "paused")
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
			_, err := d.end(ctx, r, event.Released, a.Reason)
			errs = append(errs, err)
			continue
		}
		if a.State != event.Active && a.State != event.Refused || r.State == a.State && r.Reason == a.Reason {
			continue
		}
		if r.State = a.State; a.State == event.Active && r.AppliedAt.IsZero() {
			r.AppliedAt = a.At
		}
		if r.Reason = a.Reason; a.State == event.Refused {
			d.log.WarnContext(ctx, "redirect refused by its host", "host", host, "source", r.Source, "redirect", r.ID, "reason", a.Reason)
		}
		d.board.Note(r)
		if err := d.opts.Store.SaveRedirect(ctx, r); err != nil {
			errs = append(errs, fmt.Errorf("store redirect %s: %w", r.ID, err))
		}
	}
	return errors.Join(errs...)
}

func (d *Decider) end(ctx context.Context, r event.Redirect, s event.State, reason string) (event.Redirect, error) {
	r.State, r.Reason = s, reason
	if err := d.opts.Store.SaveRedirect(ctx, r); err != nil {
		return r, fmt.Errorf("store redirect %s: %w", r.ID, err)
	}
	if c, ok := d.board.Delete(r.ID); ok {
		d.opts.Notifier.Changed(r.Host, c)
		d.opts.Leaser.Release(ctx, r)
		d.opts.Ended(r)
		d.log.InfoContext(ctx, "redirect ended", "redirect", r.ID, "source", r.Source, "host", r.Host, "state", s, "reason", reason)
	}
	return r, nil
}

func (d *Decider) expire(ctx context.Context) {
	now := d.now()
	for _, r := range d.board.Live(func(r event.Redirect) bool { return !r.ExpiresAt.After(now) }) {
		if _, err := d.end(ctx, r, event.Expired, ""); err != nil {
			d.log.ErrorContext(ctx, "expired redirect not stored", "redirect", r.ID, "error", err)
		}
	}
}

// lease gets endpoints for the redirects that have none yet.
func (d *Decider) lease(ctx context.Context) {
	for _, r := range d.board.Live(func(r event.Redirect) bool { return !r.Endpoint.IsValid() }) {
		if !d.grant(ctx, &r) {
			d.board.Note(r)
			if ctx.Err() != nil {
				return
			}
			continue
		}
		if err := d.opts.Store.SaveRedirect(ctx, r); err != nil {
			d.log.ErrorContext(ctx, "leased redirect not stored", "redirect", r.ID, "error", err)
			continue
		}
		if c, ok := d.board.Replace(r); ok {
			d.opts.Notifier.Changed(r.Host, c)
		} else {
			d.opts.Leaser.Release(ctx, r)
		}
	}
}
