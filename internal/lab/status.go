package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/kokkuri/kokkuri/internal/api"
)

// Part is one thing that the lab consists of, and how it is.
type Part struct {
	Name  string `json:"name"`
	State string `json:"state"` // running, connected, missing, …
	OK    bool   `json:"ok"`
	Where string `json:"where"` // its addresses
}

// Status tells and prints how the lab is; it is up where all parts are OK.
func (l *Lab) Status(ctx context.Context) (parts []Part, up bool, err error) {
	if parts, err = l.parts(ctx); err != nil {
		return nil, false, err
	}
	up = true
	for _, p := range parts {
		up = up && p.OK
		l.printf("%-22s %-18s %s\n", p.Name, p.State, p.Where)
	}
	return parts, up, nil
}

func (l *Lab) parts(ctx context.Context) ([]Part, error) {
	var parts []Part
	for _, m := range l.Machines() {
		p := Part{Name: m.spec.name, State: "missing"}
		for _, at := range m.spec.at {
			p.Where += fmt.Sprintf("%s %s ", at.v4, at.v6)
		}
		found, err := l.cli.ContainerInspect(ctx, m.spec.name, client.ContainerInspectOptions{})
		switch {
		case err == nil:
			p.State, p.OK = string(found.Container.State.Status), found.Container.State.Running
		case !errdefs.IsNotFound(err):
			return nil, fmt.Errorf("look for %s: %w", m.spec.name, err)
		}
		parts = append(parts, p)
	}
	for _, p := range []*Process{l.Server(), l.Node()} {
		pids, err := p.PIDs()
		if err != nil {
			return nil, err
		}
		part := Part{Name: "kokkuri " + p.role, State: "not running", OK: len(pids) == 1, Where: "198.51.100.2 2001:db8:2::2"}
		if p.role == "honeypot" {
			part.Where = "198.51.100.20 2001:db8:2::20"
		}
		if len(pids) > 0 {
			part.State = fmt.Sprintf("running as %d", pids[0])
		}
		parts = append(parts, part)
	}
	for _, c := range []struct {
		name string
		ask  func() error
	}{
		{"agent of " + HostName, func() error { return connectedSince[api.Host](ctx, l, api.PathHosts, HostName, time.Time{}) }},
		{"node " + NodeName, func() error { return connectedSince[api.Node](ctx, l, api.PathNodes, NodeName, time.Time{}) }},
	} {
		part := Part{Name: c.name, State: "connected", OK: true}
		if err := c.ask(); err != nil {
			part.State, part.OK, part.Where = "not connected", false, err.Error()
		}
		parts = append(parts, part)
	}
	return parts, nil
}
