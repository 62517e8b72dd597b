package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kokkuri/kokkuri/internal/agent/persona"
	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	learnEvery = 10 * time.Minute
	learnRetry = 5 * time.Second // while the server does not take it
	tellWithin = 10 * time.Second
)

func (a *Agent) personaOptions() persona.Options {
	c := a.opts.Config.Persona
	return persona.Options{Host: a.name, Disable: c.Disable, Addresses: c.Addresses}
}

// keepLearnt looks at what the host is like, and tells the server, again and again until ctx ends. The server
// tells what changed.
func (a *Agent) keepLearnt(ctx context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		p, found := persona.Learn(ctx, a.personaOptions())
		a.learnt.Store(&found)
		if err := a.tellPersona(ctx, p); err != nil {
			if ctx.Err() == nil && !errors.Is(err, errNotConnected) {
				a.log.WarnContext(ctx, "what this host is like is not told; told again later", "error", err)
			}
			next.Reset(learnRetry)
			continue
		}
		next.Reset(learnEvery)
	}
}

func (a *Agent) tellPersona(ctx context.Context, p event.Persona) error {
	if !a.conn.Connected() {
		return errNotConnected
	}
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	if _, err := bus.Request[event.Persona, struct{}](ctx, a.conn, bus.PersonaSubject(a.name), p); err != nil {
		return fmt.Errorf("tell what this host is like: %w", err)
	}
	return nil
}

// serveKeys answers requests for this host's SSH host keys, until stop.
func (a *Agent) serveKeys() (stop func(), err error) {
	stop, err = bus.Serve(a.conn, bus.KeysSubject(a.name), func(ctx context.Context, _ string, _ event.PersonaRequest) (event.HostKeys, error) {
		if !a.opts.Config.Persona.HostKeys {
			return event.HostKeys{Error: "the host's agent gives out no host keys (persona.host_keys is not set)"}, nil
		}
		keys, err := persona.HostKeys(ctx, a.personaOptions())
		if err != nil {
			return event.HostKeys{}, fmt.Errorf("host keys: %w", err)
		}
		a.log.InfoContext(ctx, "SSH host keys given to a node that holds this host's attackers", "keys", len(keys))
		return event.HostKeys{Keys: keys}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("answer requests for host keys: %w", err)
	}
	return stop, nil
}
