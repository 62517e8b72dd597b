package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kokkuri/kokkuri/internal/agent/collect"
	"github.com/kokkuri/kokkuri/internal/agent/divert"
	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
)

// Options of an agent.
type Options struct {
	Config  config.Agent
	Version string
	Log     *slog.Logger
}

// Agent is the role of a protected host.
type Agent struct {
	opts   Options
	log    *slog.Logger
	name   string
	id     *pki.Client
	conn   *bus.Conn
	kernel *divert.Divert
	lines  *collect.Collector
	sync   *syncer
	logs   collect.Options
	advice atomic.Pointer[[]event.Finding] // what keeps attacks out of servers' logs
	learnt atomic.Pointer[[]event.Finding] // what keeps pots from looking like this host
}

// Dir is the agent's part of the state folder.
func Dir(c config.Agent) string { return filepath.Join(c.StateDir, "agent") }

// IdentityDir is where the agent's certificate lies.
func IdentityDir(c config.Agent) string { return filepath.Join(Dir(c), "identity") }

// SocketPath is where a running agent answers the commands on its host.
func SocketPath(c config.Agent) string { return filepath.Join(filepath.Dir(c.Socket), "agent.sock") }

// Run is the agent until ctx ends. Where the host isn't enrolled and the configuration has a token, it enrols first.
func Run(ctx context.Context, o Options) error {
	a, err := start(ctx, o)
	if err != nil {
		return err
	}
	return a.run(ctx)
}

func start(ctx context.Context, o Options) (*Agent, error) {
	if err := os.MkdirAll(Dir(o.Config), 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w (state_dir says where it is; the agent runs as root)", err)
	}
	id, err := identity(ctx, o)
	if err != nil {
		return nil, err
	}
	a := &Agent{opts: o, log: o.Log, name: id.Name, id: id}
	kept, err := loadDesired(Dir(o.Config))
	if err != nil {
		return nil, err
	}
	kernelOpts := kernelOptions(o.Config, o.Log)
	kernelOpts.Changed = a.askAnew
	if a.kernel, err = divert.New(kernelOpts); err != nil {
		return nil, fmt.Errorf("prepare the kernel: %w", err)
	}
	a.sync = &syncer{
		kernel: a.kernel, uplink: a, desired: kept, describe: a.describe,
		changes: make(chan event.Change, 1024), ask: make(chan struct{}, 1), unsent: map[string]event.Applied{},
		servers: addressesOf(ctx, id.Servers), log: o.Log.With("part", "sync"),
	}
	if a.conn, err = bus.Dial(ctx, bus.Options{
		URLs: id.Servers, TLS: id.TLS, Name: "agent " + id.Name, Log: o.Log.With("part", "bus"),
		OnReconnect: a.askAnew,
		OnDisconnect: func(err error) {
			o.Log.WarnContext(ctx, "no connection to the server; lines wait, redirects stay", "error", err)
		},
	}); err != nil {
		a.kernel.Close()
		return nil, fmt.Errorf("connect to the server: %w", err)
	}
	a.logs = sources(o.Config)
	a.logs.Host, a.logs.StateDir, a.logs.Publish, a.logs.Log = a.name, Dir(o.Config), a.conn.PublishBatch, o.Log.With("part", "collect")
	if a.lines, err = collect.New(a.logs); err != nil {
		a.conn.Close()
		a.kernel.Close()
		return nil, fmt.Errorf("follow logs: %w", err)
	}
	return a, nil
}

// identity loads the host's certificate, and enrols first where there is none but a token.
func identity(ctx context.Context, o Options) (*pki.Client, error) {
	dir := IdentityDir(o.Config)
	id, err := pki.LoadClient(dir)
	if errors.Is(err, pki.ErrNotEnrolled) && o.Config.Token != "" {
		if err := Enroll(ctx, o.Config, string(o.Config.Token)); err != nil {
			return nil, err
		}
		id, err = pki.LoadClient(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("identity of this host: %w", err)
	}
	if o.Config.Name != "" && o.Config.Name != id.Name {
		return nil, fmt.Errorf("this host is enrolled as %s but agent.name is %s: remove agent.name, or enrol again with a token for %s", id.Name, o.Config.Name, o.Config.Name)
	}
	return id, nil
}

// Enroll gets the host's certificate with a one-time token.
func Enroll(ctx context.Context, c config.Agent, token string) error {
	var errs []error
	for _, server := range c.Server {
		err := pki.Enroll(ctx, string(server), token, IdentityDir(c))
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("enrol: %w", errors.Join(errs...))
}

// addressesOf are the addresses of servers; names that can't be resolved now have none.
func addressesOf(ctx context.Context, servers []string) []netip.Addr {
	var out []netip.Addr
	for _, s := range servers {
		host, _, err := net.SplitHostPort(s)
		if err != nil {
			continue
		}
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			continue
		}
		for _, a := range found {
			out = append(out, event.Canonical(a))
		}
	}
	return out
}

func services(c config.Agent) []event.HostPort {
	out := make([]event.HostPort, 0, len(c.Services))
	for _, s := range c.Services {
		out = append(out, event.HostPort{Service: event.Service(s.Service), Port: s.Port})
	}
	return out
}

func (a *Agent) run(ctx context.Context) error {
	defer a.kernel.Close()
	defer a.conn.Close()
	stop, err := bus.Subscribe(a.conn, bus.RedirectsSubject(a.name), a.changed)
	if err != nil {
		return fmt.Errorf("listen for redirects: %w", err)
	}
	defer stop()
	stopKeys, err := a.serveKeys() //nolint:contextcheck // what it answers has contexts of its own
	if err != nil {
		return err
	}
	defer stopKeys()
	local, err := a.listen(ctx)
	if err != nil {
		return err
	}
	a.log.InfoContext(ctx, "agent runs", "host", a.name, "version", a.opts.Version, "services", a.opts.Config.Services, "files", a.logs.Files, "journal", a.logs.Journal != nil)
	ctx, cancel := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	part := func(what string, run func(context.Context) error) {
		parts.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	part("kernel", a.kernel.Run)
	part("logs", a.lines.Run)
	part("advice", func(ctx context.Context) error { a.keepAdvised(ctx, a.logs); return nil })
	part("persona", func(ctx context.Context) error { a.keepLearnt(ctx); return nil })
	part("commands", local)
	part("certificate", func(ctx context.Context) error { a.id.KeepRenewed(ctx, a.conn, a.log); return nil })
	part("redirects", func(ctx context.Context) error { a.sync.run(ctx); return nil })
	<-ctx.Done()
	parts.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err //nolint:wrapcheck // a part's own
	}
	// Redirects stay in the kernel for the minutes that a restart takes; they expire by themselves.
	a.log.InfoContext(ctx, "agent stops; redirects expire by themselves unless it starts again")
	return nil
}

// askAnew has the whole desired state asked for; it never blocks.
func (a *Agent) askAnew() {
	select {
	case a.sync.ask <- struct{}{}:
	default:
	}
}

// changed takes a change from the bus. Where too many wait, the whole state is asked for instead.
func (a *Agent) changed(c event.Change) {
	select {
	case a.sync.changes <- c:
	default:
		a.askAnew()
	}
}

// Desired implements uplink.
func (a *Agent) Desired(ctx context.Context) (event.Desired, error) {
	if !a.conn.Connected() {
		return event.Desired{}, errNotConnected
	}
	d, err := bus.Request[struct{}, event.Desired](ctx, a.conn, bus.DesiredSubject(a.name), struct{}{})
	if err != nil {
		return d, fmt.Errorf("ask for the desired state: %w", err)
	}
	return d, nil
}

// Status implements uplink.
func (a *Agent) Status(ctx context.Context, s event.HostStatus) error {
	if !a.conn.Connected() {
		return errNotConnected
	}
	if _, err := bus.Request[event.HostStatus, struct{}](ctx, a.conn, bus.StatusSubject(a.name), s); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	return nil
}

var errNotConnected = errors.New("not connected to the server")

func kernelOptions(c config.Agent, log *slog.Logger) divert.Options {
	return divert.Options{
		Services: services(c), Allow: c.Allow, Endpoints: c.Endpoints, DockerUser: c.DockerUser, StateDir: Dir(c), Log: log.With("part", "divert"),
	}
}

func (a *Agent) describe() event.HostStatus {
	addresses, err := a.kernel.Addresses()
	if err != nil {
		a.log.Error("own addresses not known", "error", err)
	}
	findings := append(a.kernel.Findings(), a.lines.Findings()...)
	if advice := a.advice.Load(); advice != nil {
		findings = append(findings, *advice...)
	}
	if learnt := a.learnt.Load(); learnt != nil {
		findings = append(findings, *learnt...)
	}
	return event.HostStatus{
		Host: a.name, Version: a.opts.Version, Addresses: addresses, Services: services(a.opts.Config),
		Findings: findings, Counts: a.lines.Counts(), At: time.Now(),
	}
}
