package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
)

// API asks the lab's server.
func (l *Lab) API() *api.Client { return api.NewClient(l.o.Socket) }

// Release ends the live redirects of a source.
func (l *Lab) Release(ctx context.Context, source netip.Addr) error {
	_, err := l.API().Release(ctx, Prefix(source).String())
	return err
}

// Prefix is what the server knows an attacker at a by: its address, or its /64.
func Prefix(a netip.Addr) netip.Prefix { return event.SourcePrefix(a, 64) }

// ErrNoRedirect says that a source is not redirected.
var ErrNoRedirect = errors.New("no redirect")

// RedirectOf finds the newest redirect of a source on web in any state: of one of the services, or of any where
// none is named.
func (l *Lab) RedirectOf(ctx context.Context, source netip.Addr, services ...event.Service) (event.Redirect, error) {
	list, err := api.List[event.Redirect](ctx, l.API(), api.PathRedirects, of(source))
	if err != nil {
		return event.Redirect{}, err
	}
	list = slices.DeleteFunc(list, func(r event.Redirect) bool {
		return len(services) > 0 && !slices.Contains(services, r.Service)
	})
	if len(list) == 0 {
		return event.Redirect{}, fmt.Errorf("%w of %s", ErrNoRedirect, source)
	}
	return slices.MaxFunc(list, func(a, b event.Redirect) int { return a.CreatedAt.Compare(b.CreatedAt) }), nil
}

// of narrows a list to a source on web.
func of(source netip.Addr) api.Filter { return api.Filter{Host: HostName, Source: Prefix(source)} }

// WaitRedirect waits until the newest redirect of a source is in one of the states.
func (l *Lab) WaitRedirect(ctx context.Context, source netip.Addr, within time.Duration, states ...event.State) (r event.Redirect, err error) {
	waitErr := wait(ctx, within, func() (bool, error) {
		r, err = l.RedirectOf(ctx, source)
		if err != nil && !errors.Is(err, ErrNoRedirect) {
			return false, err
		}
		for _, s := range states {
			if err == nil && r.State == s {
				return true, nil
			}
		}
		return false, nil
	})
	if errors.Is(waitErr, errDeadline) {
		return r, fmt.Errorf("redirect of %s is not %v after %s but %q (%s)", source, states, within, r.State, r.Reason)
	}
	return r, waitErr
}

// WaitDeflected waits until the redirect of a source's connections to a service is in the kernel.
func (l *Lab) WaitDeflected(ctx context.Context, source netip.Addr, service event.Service, within time.Duration) (r event.Redirect, err error) {
	waitErr := wait(ctx, within, func() (bool, error) {
		r, err = l.RedirectOf(ctx, source, service)
		if err != nil && !errors.Is(err, ErrNoRedirect) {
			return false, err
		}
		return err == nil && r.State == event.Active, nil
	})
	if errors.Is(waitErr, errDeadline) {
		return r, fmt.Errorf("redirect of %s to %s is not active after %s but %q (%s)", source, service, within, r.State, r.Reason)
	}
	return r, waitErr
}

// SessionsOf lists the sessions of an attacker.
func (l *Lab) SessionsOf(ctx context.Context, source netip.Addr) ([]event.Session, error) {
	return api.List[event.Session](ctx, l.API(), api.PathSessions, of(source))
}

// OffencesOf lists the offences of a source on web, without their proof.
func (l *Lab) OffencesOf(ctx context.Context, source netip.Addr) ([]event.Offence, error) {
	return api.List[event.Offence](ctx, l.API(), api.PathOffences, of(source))
}

// PotsOf lists the pots of an attacker.
func (l *Lab) PotsOf(ctx context.Context, source netip.Addr) ([]event.Pot, error) {
	return api.List[event.Pot](ctx, l.API(), api.PathPots, of(source))
}

// connectedSince tells whether the server heard of a host, or of a node that takes attackers, since a time by
// this machine's clock.
func connectedSince[T api.Host | api.Node](ctx context.Context, l *Lab, path, name string, since time.Time) error {
	list, err := api.List[T](ctx, l.API(), path, api.Filter{})
	if err != nil {
		return err
	}
	for _, found := range list {
		switch m := any(found).(type) {
		case api.Host:
			if m.Name == name && m.Connected && m.LastSeen.After(since) {
				return nil
			}
		case api.Node:
			if m.Name == name && m.Connected && m.LastSeen.After(since) && len(m.Services) > 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("the server does not see %s connected", name)
}
