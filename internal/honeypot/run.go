package honeypot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
	"github.com/kokkuri/kokkuri/internal/honeypot/watch"
	"github.com/kokkuri/kokkuri/internal/pki"
)

// RunOptions of Run.
type RunOptions struct {
	Config  config.Honeypot
	Version string
	Log     *slog.Logger
}

// Dir is the node's part of the state folder.
func Dir(c config.Honeypot) string { return filepath.Join(c.StateDir, "honeypot") }

// IdentityDir is where the node's certificate lies.
func IdentityDir(c config.Honeypot) string { return filepath.Join(Dir(c), "identity") }

// Run is the honeypot role until ctx ends: a node with its connection to the server. Where the node isn't
// enrolled and the configuration has a token, it enrols first.
func Run(ctx context.Context, o RunOptions) error {
	id, err := identity(ctx, o)
	if err != nil {
		return err
	}
	advertise, err := advertised(o.Config)
	if err != nil {
		return err
	}
	c := o.Config
	opts := Options{
		Name: id.Name, Version: o.Version, StateDir: Dir(c), Advertise: advertise, Ports: pool.Ports{First: c.PortRange.First, Last: c.PortRange.Last},
		Engine: c.Engine, Image: c.Image, Subnet: c.Subnet, KeepPots: time.Duration(c.PotTTL), MaxPots: c.Limits.Pots, Overflow: c.Overflow,
		Least: c.Guesses.Least, Most: c.Guesses.Most,
		SSH: SSH{
			Version: c.SSH.Version, Methods: c.SSH.Methods, FailDelay: time.Duration(c.SSH.FailDelay), Front: c.SSH.Front, AtDoor: c.SSH.AtDoor,
			DoorMemory: int64(c.SSH.DoorMemory),
		},
		Watch: watch.Mode(c.Watch),
		Pool: Pool{
			Warm: c.Pool.Warm, KeepFree: int64(c.Pool.KeepFree), PauseAfter: time.Duration(c.Pool.PauseAfter), StopAfter: time.Duration(c.Pool.StopAfter),
		},
		Egress: Egress{
			Default: event.EgressPolicy(c.Egress.Default), Most: event.EgressPolicy(c.Egress.Most), Forbid: c.Egress.Forbid,
			FetchSize: int64(c.Egress.FetchSize), PerMinute: c.Egress.PerMinute, AllPerMinute: c.Egress.AllPerMinute,
		},
		PotDisk: int64(c.Limits.PotDisk), PerLease: c.Limits.Connections, File: int64(c.Limits.File), PerAttacker: int64(c.Limits.Attacker),
		Limits:      engine.Limits{Memory: int64(c.Limits.Memory), Pids: int64(c.Limits.PIDs), CPUs: float64(c.Limits.MilliCPUs) / 1000},
		MaxSessions: c.Limits.Sessions, Recording: int64(c.Limits.Recording), Recordings: int64(c.Limits.Recordings), Log: o.Log,
	}
	connected := make(chan struct{}, 1)
	opts.Connected = connected
	conn, err := bus.Dial(ctx, busOptions(id, connected, o.Log))
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	defer conn.Close()
	opts.Bus = line{conn}
	n, err := New(opts)
	if err != nil {
		return err
	}
	renewing, stop := context.WithCancel(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		id.KeepRenewed(renewing, conn, o.Log)
	}()
	defer func() { stop(); <-renewed }()
	return n.Run(ctx)
}

func busOptions(id *pki.Client, connected chan<- struct{}, log *slog.Logger) bus.Options {
	o := id.BusOptions(log.With("part", "bus"))
	o.OnReconnect = func() {
		select {
		case connected <- struct{}{}:
		default: // it is told already
		}
	}
	o.OnDisconnect = func(err error) {
		log.Warn("no connection to the server; leases hold, session records wait", "error", err)
	}
	return o
}

// identity loads the node's certificate, and enrols first where there is none but a token.
func identity(ctx context.Context, o RunOptions) (*pki.Client, error) {
	dir := IdentityDir(o.Config)
	id, err := pki.LoadClient(dir)
	if errors.Is(err, pki.ErrNotEnrolled) {
		token := o.Config.Token.Reveal()
		if token == "" {
			return nil, errors.New("this node is not enrolled: make a token on the server with `kokkuri enroll --node NAME`, then start here with honeypot.token or KOKKURI_HONEYPOT_TOKEN set to it")
		}
		var errs []error
		for _, server := range o.Config.Server {
			if err = pki.Enroll(ctx, string(server), token, dir); err == nil {
				id, err = pki.LoadClient(dir)
				break
			}
			errs = append(errs, err)
		}
		if err != nil && len(errs) > 0 {
			return nil, fmt.Errorf("enrol this node: %w", errors.Join(errs...))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("identity of this node: %w", err)
	}
	if o.Config.Name != "" && o.Config.Name != id.Name {
		return nil, fmt.Errorf("this node is enrolled as %s but honeypot.name is %s: remove honeypot.name, or enrol again with a token for %s", id.Name, o.Config.Name, o.Config.Name)
	}
	if err := os.MkdirAll(Dir(o.Config), 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w (state_dir says where it is)", err)
	}
	return id, nil
}

// advertised are the addresses of the endpoints: as configured, else the machine's first of each family.
func advertised(c config.Honeypot) ([]netip.Addr, error) {
	if len(c.Advertise) > 0 {
		return c.Advertise, nil
	}
	ifaddrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w (set honeypot.advertise)", err)
	}
	var v4, v6 []netip.Addr
	for _, a := range ifaddrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().IsGlobalUnicast() {
			continue
		}
		if p.Addr().Is4() {
			v4 = append(v4, p.Addr())
		} else {
			v6 = append(v6, p.Addr())
		}
	}
	out := append(v4[:min(len(v4), 1)], v6[:min(len(v6), 1)]...)
	if len(out) == 0 {
		return nil, errors.New("this machine has no address that hosts could reach: set honeypot.advertise")
	}
	return out, nil
}

// line is the bus as a node uses it.
type line struct{ conn *bus.Conn }

// ServeLeases implements Bus.
func (l line) ServeLeases(node string, fn func(context.Context, event.LeaseRequest) event.LeaseReply) (func(), error) {
	stop, err := bus.Serve(l.conn, bus.LeaseSubject(node), func(ctx context.Context, _ string, r event.LeaseRequest) (event.LeaseReply, error) {
		return fn(ctx, r), nil
	})
	if err != nil {
		return nil, fmt.Errorf("answer the server: %w", err)
	}
	return stop, nil
}

// Status implements Bus.
func (l line) Status(ctx context.Context, s event.NodeStatus) (event.NodeDesired, error) {
	d, err := bus.Request[event.NodeStatus, event.NodeDesired](ctx, l.conn, bus.NodesSubject(s.Node), s)
	if err != nil {
		return d, fmt.Errorf("tell the status: %w", err)
	}
	return d, nil
}

// PublishSession implements Bus.
func (l line) PublishSession(ctx context.Context, r event.SessionReport) error {
	if err := l.conn.PublishSession(ctx, r); err != nil {
		return fmt.Errorf("tell session %s: %w", r.Session.ID, err)
	}
	return nil
}

// ServeEvidence implements Bus.
func (l line) ServeEvidence(node string, fn func(context.Context, event.EvidenceRequest) event.EvidenceReply) (func(), error) {
	stop, err := bus.Serve(l.conn, bus.EvidenceSubject(node), func(ctx context.Context, _ string, r event.EvidenceRequest) (event.EvidenceReply, error) {
		return fn(ctx, r), nil
	})
	if err != nil {
		return nil, fmt.Errorf("answer the server: %w", err)
	}
	return stop, nil
}

// Persona implements Bus.
func (l line) Persona(ctx context.Context, node, host string) (event.PersonaOf, error) {
	p, err := bus.Request[event.PersonaRequest, event.PersonaOf](ctx, l.conn, bus.PersonasSubject(node), event.PersonaRequest{Host: host})
	if err != nil {
		return p, fmt.Errorf("ask the server: %w", err)
	}
	return p, nil
}

// HostKeys implements Bus.
func (l line) HostKeys(ctx context.Context, node, host string) (event.HostKeys, error) {
	k, err := bus.Request[event.PersonaRequest, event.HostKeys](ctx, l.conn, bus.NodeKeysSubject(node), event.PersonaRequest{Host: host})
	if err != nil {
		return k, fmt.Errorf("ask the server: %w", err)
	}
	return k, nil
}
