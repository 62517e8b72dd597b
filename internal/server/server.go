package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/bus/broker"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
	"github.com/kokkuri/kokkuri/internal/server/decide"
	"github.com/kokkuri/kokkuri/internal/server/detect"
	"github.com/kokkuri/kokkuri/internal/server/intake"
	"github.com/kokkuri/kokkuri/internal/server/lists"
	"github.com/kokkuri/kokkuri/internal/server/parse"
	"github.com/kokkuri/kokkuri/internal/store"
)

const (
	loginMemory  = 30 * 24 * time.Hour
	loginSources = 500_000 // trusted and others, each
	stopTimeout  = 10 * time.Second

	breakerLooksBack = 10_000 // redirects
)

// Options of a server.
type Options struct {
	Config  config.Server
	Version string
	Log     *slog.Logger
	// Reload has the rules read again at each value, as SIGHUP does; nil: never.
	Reload <-chan struct{}
	// Ready, where given, is called when hosts, nodes and commands are answered.
	Ready func(*Server)
}

// Server is the role that collects, detects and decides.
type Server struct {
	opts    Options
	log     *slog.Logger
	started time.Time

	store    *store.SQLite
	ca       *pki.CA
	broker   *broker.Broker
	conn     *bus.Conn
	hosts    *hosts
	nodes    *nodes
	allow    *decide.Allow
	decider  *decide.Decider
	pipeline *pipeline
	intake   *intake.Intake
	rules    *rulebook
	lists    *lists.Set
	personas *personas
	counters *counters
	tail     *tail
	own      ownAddresses

	closers []closer // last in, first out
}

type closer struct {
	what  string
	close func(ctx context.Context) error
}

// Dir is the server's part of the state folder.
func Dir(c config.Server) string { return filepath.Join(c.StateDir, "server") }

// Run is the server until ctx ends.
func Run(ctx context.Context, o Options) error {
	s := &Server{opts: o, log: o.Log, started: time.Now(), hosts: newHosts(), counters: newCounters(), tail: newTail(), own: ownAddresses{log: o.Log}}
	err := s.start(ctx)
	if err == nil {
		err = s.run(ctx)
	}
	return errors.Join(err, s.close(ctx))
}

func (s *Server) onClose(what string, f func(ctx context.Context) error) {
	s.closers = append(s.closers, closer{what, f})
}

func (s *Server) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	var errs []error
	for _, c := range slices.Backward(s.closers) {
		if err := c.close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", c.what, err))
		}
	}
	return errors.Join(errs...)
}

// start opens what must be there before anything runs; what it opened is closed by close, also after an error.
func (s *Server) start(ctx context.Context) error {
	c := s.opts.Config
	if _, err := loadRules(c.Rules); err != nil { // before anything is there that would have to be undone
		return err
	}
	if err := os.MkdirAll(Dir(c), 0o700); err != nil {
		return fmt.Errorf("state folder: %w (state_dir says where it is)", err)
	}
	var err error
	if s.store, err = store.Open(ctx, store.Options{Path: filepath.Join(Dir(c), "kokkuri.db"), Log: s.part("store")}); err != nil {
		return err
	}
	s.onClose("store", func(context.Context) error { return s.store.Close() })
	if err := s.startBus(ctx); err != nil {
		return err
	}
	if err := s.load(ctx); err != nil {
		return err
	}
	if err := s.assemble(ctx); err != nil {
		return err
	}
	s.personas = newPersonas(s.store, c, s.part("personas"))
	if err := s.personas.check(); err != nil {
		return err
	}
	return s.openIntake()
}

func (s *Server) part(name string) *slog.Logger { return s.log.With("part", name) }

func (s *Server) startBus(ctx context.Context) (err error) {
	c := s.opts.Config
	if s.ca, err = pki.OpenCA(pki.Options{Dir: filepath.Join(Dir(c), "pki"), Log: s.part("pki")}); err != nil {
		return err
	}
	tls, err := s.ca.ServerTLS(c.Bus.Names, []netip.Addr{c.Bus.Listen.Addr()})
	if err != nil {
		return fmt.Errorf("certificate of the bus: %w", err)
	}
	if s.broker, err = broker.New(broker.Options{
		Listen: c.Bus.Listen, TLS: tls, StoreDir: filepath.Join(Dir(c), "bus"), MaxLogBytes: int64(c.Bus.LogBudget),
		Revoked: s.ca.Revoked, Log: s.part("bus"),
	}); err != nil {
		return err
	}
	if err := s.broker.Start(ctx); err != nil {
		return err
	}
	s.onClose("bus", s.broker.Stop)
	if s.conn, err = s.broker.Dial(ctx, bus.Options{Name: "server", Log: s.part("bus")}); err != nil {
		return fmt.Errorf("connect to the bus: %w", err)
	}
	s.onClose("connection to the bus", func(context.Context) error { s.conn.Close(); return nil })
	return nil
}

func (s *Server) assemble(ctx context.Context) error {
	c := s.opts.Config
	s.lists = lists.New(lists.Options{Dir: listsDir(c), Log: s.part("lists")})
	s.rules = &rulebook{path: c.Rules, store: s.store, lists: s.lists, use: s.useRules, now: time.Now, log: s.part("rules")}
	rules, err := s.rules.load(ctx)
	if err != nil {
		return err
	}
	live, err := s.store.Redirects(ctx, store.Filter{Live: true})
	if err != nil {
		return err
	}
	paused, err := s.store.Paused(ctx)
	if err != nil {
		return err
	}
	s.pipeline = &pipeline{
		stream: s.conn, store: savedIn{s.store}, rules: rules, onList: s.lists.Contains, newLogins: s.loadLogins, over: s.isOver, offence: s.store.Offence, trustUDP: c.Syslog.TrustUDP,
		http:     httpOptions(c.HTTP),
		roads:    &roads{fixed: func(name string) string { h, _ := s.hosts.get(name); return h.Road }},
		counters: s.counters, tail: s.tail, now: time.Now, log: s.part("pipeline"),
	}
	breaker, err := s.loadBreaker(ctx)
	if err != nil {
		return err
	}
	s.decider = decide.New(decide.Options{
		Store: s.store, Leaser: s.nodes, Notifier: s, Hosts: s.hosts, Allow: s.allow, Logins: decide.NewLogins(loginSources, loginMemory),
		Breaker: breaker, Live: live, Paused: paused, DryRun: c.DryRun,
		ExemptFor: time.Duration(c.ExemptDays) * 24 * time.Hour, Protected: s.protected, Ended: s.pipeline.ended, Spare: s.pipeline.spare, Log: s.part("decide"),
	})
	s.pipeline.decider = s.decider
	return nil
}

// httpOptions are how web servers' logs are read.
func httpOptions(c config.HTTP) parse.HTTPOptions {
	o := parse.HTTPOptions{NoShippedLogins: !c.ShippedLogins, Proxies: c.Proxies, ForwardedField: c.ForwardedField}
	for _, l := range c.Logins {
		o.Logins = append(o.Logins, parse.HTTPLogin(l))
	}
	return o
}

func (s *Server) openIntake() error {
	c := s.opts.Config
	var files []intake.FileSource
	for _, f := range c.Files {
		files = append(files, intake.FileSource{Pattern: f.Path, Host: f.Host})
	}
	var addrs []netip.Addr
	for _, a := range c.Syslog.ListenTLS {
		addrs = append(addrs, a.Addr())
	}
	secure, err := s.ca.SyslogTLS(c.Bus.Names, addrs)
	if err != nil {
		return fmt.Errorf("certificate for syslog: %w", err)
	}
	networks, names := relays(c.Syslog.Relays)
	in, err := intake.New(intake.Options{
		ListenTLS: c.Syslog.ListenTLS, TLS: secure, Sender: s.ca.Sender, Relays: networks, RelayNames: names,
		ListenTCP: c.Syslog.ListenTCP, ListenUDP: c.Syslog.ListenUDP, TrustUDP: c.Syslog.TrustUDP, Files: files, StateDir: filepath.Join(Dir(c), "intake"),
		HostOf: s.hosts.of, HostByName: s.hosts.named, Publish: s.conn.PublishBatch, Send: s.sendBatch, Log: s.part("intake"),
	})
	if err != nil {
		return fmt.Errorf("take log lines: %w", err)
	}
	s.intake = in
	return nil
}

// relays divides the configured relays into networks and the names of certificates.
func relays(list []string) (networks []netip.Prefix, names []string) {
	for _, text := range list {
		if p, err := config.ParsePrefix(text); err == nil {
			networks = append(networks, p)
		} else {
			names = append(names, text)
		}
	}
	return networks, names
}

// sendBatch hands a batch of lines to the bus without waiting for it.
func (s *Server) sendBatch(b event.Batch) (wait func(context.Context) error, err error) {
	p, err := s.conn.SendBatch(b)
	if err != nil {
		return nil, err
	}
	return p.Wait, nil
}

// run lets all parts work until ctx ends or one of them fails.
func (s *Server) run(ctx context.Context) error {
	stopBus, err := s.serveBus() //nolint:contextcheck // what it answers has contexts of its own
	if err != nil {
		return err
	}
	defer stopBus()
	stopEnrol, err := s.ca.Serve(pki.ServeOptions{Conn: s.conn, Tokens: s.store, OnEnrolled: s.enrolled, Log: s.part("pki")}) //nolint:contextcheck // likewise
	if err != nil {
		return fmt.Errorf("answer enrolments: %w", err)
	}
	defer stopEnrol()
	api, err := s.listenAPI(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel(nil)
	part := func(what string, run func(context.Context) error) {
		parts.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	// The decider outlives the pipeline: its last checkpoint waits for offences to be stored.
	deciding, stopDeciding := context.WithCancel(context.WithoutCancel(ctx))
	var decider sync.WaitGroup
	decider.Go(func() { s.decider.Run(deciding) })
	defer decider.Wait()
	defer stopDeciding()
	defer parts.Wait()
	part("intake", s.intake.Run)
	part("pipeline", func(ctx context.Context) error { s.pipeline.run(ctx); return nil })
	part("sessions", func(ctx context.Context) error { return s.conn.ConsumeSessions(ctx, "store", s.takeSession) })
	part("commands", api)
	part("housekeeping", s.keepHouse)
	part("rules", s.watchRules)
	part("lists", s.lists.Run)
	s.log.InfoContext(ctx, "server runs", "version", s.opts.Version, "bus", s.broker.ClientURL(), "syslog_tcp", s.opts.Config.Syslog.ListenTCP, "syslog_tls", s.opts.Config.Syslog.ListenTLS,
		"socket", s.opts.Config.Socket, "dry_run", s.opts.Config.DryRun, "paused", s.decider.Paused())
	if s.opts.Ready != nil {
		s.opts.Ready(s)
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err //nolint:wrapcheck // a part's own
	}
	s.log.InfoContext(ctx, "server stops")
	return nil
}

// useRules hands rules over to the pipeline.
func (s *Server) useRules(rules detect.Rules, reopened []string) {
	s.pipeline.useRules(rules, reopened)
}

// enrolled notes a new host or node; the certificate is handed out only after that.
func (s *Server) enrolled(ctx context.Context, role pki.Role, name string) error {
	now := time.Now()
	if role == pki.RoleNode {
		if err := s.store.EnrolNode(ctx, name, now); err != nil {
			return fmt.Errorf("note node %s: %w", name, err)
		}
		return nil
	}
	if err := s.store.EnrolHost(ctx, name, now); err != nil {
		return fmt.Errorf("note host %s: %w", name, err)
	}
	s.hosts.put(name, func(h *host) { h.Enrolled = true })
	return nil
}

// protected lists what must never be redirected on a host. What an agent says are its addresses holds
// for its own host only: it must not shield others' attackers.
func (s *Server) protected(name string) []decide.Protected {
	var out []decide.Protected
	for _, h := range s.hosts.all() {
		addresses := h.Static
		if h.Name == name {
			addresses = h.addresses()
		}
		for _, a := range addresses {
			out = append(out, decide.Protected{Addr: a, What: "an address of host " + h.Name})
		}
	}
	for _, n := range s.nodes.all() {
		for _, a := range n.Addresses {
			out = append(out, decide.Protected{Addr: a, What: "an address of node " + n.Node})
		}
	}
	for _, a := range s.own.get() {
		out = append(out, decide.Protected{Addr: a, What: "an address of the server"})
	}
	return out
}

// IssueIdentity makes the certificate of a role on this same machine, without token or network.
func (s *Server) IssueIdentity(ctx context.Context, dir string, role pki.Role, name string) error {
	if err := s.ca.IssueIdentity(dir, role, name, []string{s.broker.ClientURL()}); err != nil {
		return fmt.Errorf("identity of %s %s: %w", role, name, err)
	}
	return s.enrolled(ctx, role, name)
}
