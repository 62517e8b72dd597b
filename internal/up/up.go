// Package up runs all roles in one process on one machine, connected to each other without a token: for a trial.
package up

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/kokkuri/kokkuri/internal/agent"
	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/pki"
	"github.com/kokkuri/kokkuri/internal/server"
)

// Options of Run.
type Options struct {
	Config  config.Up
	Version string
	Log     *slog.Logger
	Reload  <-chan struct{} // has the rules read again at each value; nil: never
}

// role is one part that runs until its context ends.
type role struct {
	name string
	run  func(ctx context.Context) error
}

// Run runs server, node and agent until ctx ends or one of them fails; the server ends last, so that the others can still report.
func Run(ctx context.Context, o Options) error {
	name, err := hostName()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	serving, stopServer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServer()
	ready, ended := make(chan *server.Server, 1), make(chan error, 1)
	go func() {
		err := server.Run(serving, server.Options{
			Config: o.Config.ServerConfig(), Version: o.Version, Log: o.Log.With("role", "server"), Reload: o.Reload, Ready: func(s *server.Server) { ready <- s },
		})
		cancel(err)
		ended <- err
	}()
	select {
	case s := <-ready:
		err = others(ctx, o, s, name)
	case <-ctx.Done():
	}
	stopServer()
	return errors.Join(err, <-ended)
}

// others runs the node and the agent, with certificates that the server issues to them.
func others(ctx context.Context, o Options, s *server.Server, name string) error {
	hc, ac := o.Config.HoneypotConfig(), o.Config.AgentConfig()
	if hc.Name == "" {
		hc.Name = name
	}
	if ac.Name == "" {
		ac.Name = name
	}
	if err := s.IssueIdentity(ctx, honeypot.IdentityDir(hc), pki.RoleNode, hc.Name); err != nil {
		return err
	}
	if err := s.IssueIdentity(ctx, agent.IdentityDir(ac), pki.RoleHost, ac.Name); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, r := range []role{
		{"honeypot", func(ctx context.Context) error {
			return honeypot.Run(ctx, honeypot.RunOptions{Config: hc, Version: o.Version, Log: o.Log.With("role", "honeypot")})
		}},
		{"agent", func(ctx context.Context) error {
			return agent.Run(ctx, agent.Options{Config: ac, Version: o.Version, Log: o.Log.With("role", "agent")})
		}},
	} {
		running.Go(func() {
			if err := r.run(ctx); err != nil {
				cancel(fmt.Errorf("%s: %w", r.name, err))
			}
		})
	}
	running.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err //nolint:wrapcheck // a role's own
	}
	return nil
}

// hostName is the machine's name as host and node are named: its first label, in lower case.
func hostName() (string, error) {
	full, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name of this machine: %w (set agent.name and honeypot.name)", err)
	}
	label, _, _ := strings.Cut(strings.ToLower(full), ".")
	if err := bus.ValidName(label); err != nil {
		return "", fmt.Errorf("name of this machine: %w (set agent.name and honeypot.name)", err)
	}
	return label, nil
}
