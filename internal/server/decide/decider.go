package decide

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Store keeps what was decided.
type Store interface {
	// SaveOffence stores an offence and its redirects at once, where no death of the process loses them; an offence that is stored
	// already changes nothing and reports false.
	SaveOffence(ctx context.Context, o event.Offence, redirects ...event.Redirect) (stored bool, err error)
	SaveRedirect(ctx context.Context, r event.Redirect) error
	// Repeats says for how many other offences a source was redirected before, other than those that an operator released.
	Repeats(ctx context.Context, source netip.Prefix, offence string) (int, error)
}

// Leaser gets endpoints from nodes.
type Leaser interface {
	// Offers are the services that some node has pots for.
	Offers() []event.Service
	Grant(ctx context.Context, r event.LeaseRequest) (event.Lease, error)
	Release(ctx context.Context, r event.Redirect)
}

// Notifier tells a host of a change of its desired state.
type Notifier interface {
	Changed(host string, c event.Change)
}

// Hosts knows the protected hosts.
type Hosts interface {
	Port(host string, s event.Service) uint16
	Addresses(host string) []netip.Addr
	// Names are all hosts.
	Names() []string
	// Services are what a host's agent lets be redirected.
	Services(host string) []event.HostPort
}

// grantWithin is how long all nodes together may take for a lease.
const grantWithin = 2 * time.Second

// maxFreed bounds the leases that wait to be released; what is beyond, the nodes drop with their next status.
const maxFreed = 4096

// Options of a Decider.
type Options struct {
	Store     Store
	Leaser    Leaser
	Notifier  Notifier
	Hosts     Hosts
	Allow     *Allow
	Logins    *Logins
	Breaker   *Breaker
	Live      []event.Redirect // stored redirects that have not ended
	Paused    bool
	DryRun    bool
	ExemptFor time.Duration // how long a login exempts its source
	// Protected lists the addresses that must never be redirected on a host.
	Protected func(host string) []Protected
	// Spare are a source's open connections to a service of a host whose login succeeded; nil: none are known.
	Spare func(host string, s event.Service, source netip.Prefix) []netip.AddrPort
	// Ended is called when a redirect is over, so that the rule may fire again.
	Ended   func(event.Redirect)
	Workers int // offences that are handled at once; default 8
	Now     func() time.Time
	Log     *slog.Logger
}

// Decider decides about offences and keeps the desired state of the hosts. Offence and what is
// about logins are for one goroutine, the pipeline's; the rest is safe for concurrent use.
type Decider struct {
	opts    Options
	log     *slog.Logger
	now     func() time.Time
	board   *Board
	allow   *Allow
	logins  atomic.Pointer[Logins]
	breaker *Breaker
	paused  atomic.Bool
	jobs    chan job
	pending tracker       // offences that are decided but not stored
	failed  chan error    // the first that could not be stored
	changed chan struct{} // there is a redirect that may be the next to expire
	wake    chan struct{} // a node may be there for what has no lease
	freed   chan freed    // whose leases are to be released

	// life is held from the check whether a redirect may change until the change is stored and on the board.
	life sync.Mutex
}

type job struct {
	offence event.Offence
	verdict verdict
}

// New makes a Decider; Run must be running for offences to be handled.
func New(o Options) *Decider {
	if o.Workers == 0 {
		o.Workers = 8
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Decider{
		opts: o, log: o.Log, now: o.Now,
		board: NewBoard(o.Live), allow: o.Allow, breaker: o.Breaker,
		jobs: make(chan job, 256), failed: make(chan error, 1),
		changed: make(chan struct{}, 1), wake: make(chan struct{}, 1), freed: make(chan freed, maxFreed),
	}
	d.logins.Store(o.Logins)
	d.paused.Store(o.Paused)
	return d
}

// Board is the desired state.
func (d *Decider) Board() *Board { return d.board }

// Paused reports whether nothing is redirected at the moment.
func (d *Decider) Paused() bool { return d.paused.Load() }

// Tripped reports whether a host's breaker stops redirecting now.
func (d *Decider) Tripped(host string) bool { return d.breaker.Tripped(host, d.now()) }

// ObserveLogin learns who logs in honestly.
func (d *Decider) ObserveLogin(source netip.Prefix, e event.Event) {
	d.logins.Load().Observe(source, e)
}

// Logins is what was learnt of logins, for the checkpoint.
func (d *Decider) Logins() *Logins { return d.logins.Load() }

// SetLogins takes what was learnt back to a checkpoint, when the pipeline starts there again.
func (d *Decider) SetLogins(l *Logins) { d.logins.Store(l) }

// Offence judges an offence now and has it carried out by a worker; it blocks while all are busy.
func (d *Decider) Offence(ctx context.Context, o event.Offence) error {
	v := d.judge(o, d.now())
	d.pending.begin()
	select {
	case d.jobs <- job{offence: o, verdict: v}:
		return nil
	case <-ctx.Done():
		d.pending.end()
		return fmt.Errorf("hand over offence %s: %w", o.ID, ctx.Err())
	}
}

// Flush waits until every offence that was handed over is stored, and returns what went wrong: then
// the pipeline must not move its checkpoint past it.
func (d *Decider) Flush() error {
	d.pending.wait()
	select {
	case err := <-d.failed:
		return err
	default:
		return nil
	}
}

// Run carries out what was decided and ends redirects when their time is over.
func (d *Decider) Run(ctx context.Context) {
	var workers sync.WaitGroup
	for range d.opts.Workers {
		workers.Go(func() { d.work(ctx) })
	}
	defer workers.Wait()
	workers.Go(func() { d.releaseLeases(ctx) })
	workers.Go(func() { d.grantMissing(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.changed:
		case <-timer.C:
		}
		d.expire(ctx)
		timer.Reset(d.untilNext())
	}
}

func (d *Decider) untilNext() time.Duration {
	const slow = 5 * time.Second
	next := d.board.NextExpiry()
	if next.IsZero() {
		return slow
	}
	return min(max(next.Sub(d.now()), time.Millisecond), slow)
}

// Wake has missing leases asked for now, as when a node came up.
func (d *Decider) Wake() { poke(d.wake) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (d *Decider) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-d.jobs:
			if err := d.carryOut(ctx, j); err != nil {
				d.log.ErrorContext(ctx, "offence not stored", "offence", j.offence.ID, "error", err)
				select {
				case d.failed <- err:
				default:
				}
			}
			d.pending.end()
		}
	}
}

func (d *Decider) carryOut(ctx context.Context, j job) error {
	o := j.offence
	o.Outcome = j.verdict.outcome
	if o.Outcome != OutcomeRedirected {
		return d.record(ctx, o, j.verdict.alarm)
	}
	if err := d.escalate(ctx, &o); err != nil {
		return err
	}
	wanted := d.redirects(o)
	if len(wanted) == 0 {
		o.Outcome = OutcomeNowhere + ": no host has the service " + string(o.Service)
		return d.record(ctx, o, true)
	}
	d.grant(ctx, &wanted[0]) // the others' leases are asked for when the offence is stored
	o.LeasedAt = d.now()
	enacted, why, err := d.enact(wanted, func(of []event.Redirect) (bool, error) { return d.opts.Store.SaveOffence(ctx, o, of...) })
	if err != nil {
		return fmt.Errorf("store offence %s: %w", o.ID, err)
	}
	if !slices.ContainsFunc(enacted, func(r event.Redirect) bool { return r.ID == wanted[0].ID }) {
		d.releaseLater(wanted[0])
	}
	if len(enacted) == 0 && why != "" {
		o.Outcome = why
		return d.record(ctx, o, false)
	}
	for _, r := range enacted {
		d.log.InfoContext(ctx, "offence", "rule", o.Rule, "source", o.Source, "host", r.Host, "service", r.Service,
			"guesses", o.Count, "outcome", o.Outcome, "endpoint", r.Endpoint, "redirect", r.ID)
	}
	return nil
}

// record stores and logs an offence that redirects nobody.
func (d *Decider) record(ctx context.Context, o event.Offence, alarm bool) error {
	stored, err := d.opts.Store.SaveOffence(ctx, o)
	if err != nil {
		return fmt.Errorf("store offence %s: %w", o.ID, err)
	}
	if !stored { // before a restart, when what it came to was logged
		return nil
	}
	level := slog.LevelInfo
	switch {
	case o.Severity == event.SeverityCritical:
		level = slog.LevelError
	case alarm:
		level = slog.LevelWarn
	}
	d.log.Log(ctx, level, "offence", "severity", o.Severity, "rule", o.Rule, "source", o.Source, "host", o.Host, "service", o.Service,
		"account", o.Account, "guesses", o.Count, "outcome", o.Outcome)
	return nil
}

// enact stores new redirects, puts them on the board and tells their hosts, except those that something forbids that came
// up while leases were asked for: why says what. What is stored already, before a restart, is on the board already.
func (d *Decider) enact(wanted []event.Redirect, save func([]event.Redirect) (stored bool, err error)) (enacted []event.Redirect, why string, err error) {
	d.life.Lock()
	defer d.life.Unlock()
	for _, r := range wanted {
		if w := d.forbidden(r.Host, r.Source, r.Service); w != "" {
			if why == "" {
				why = w
			}
			continue
		}
		enacted = append(enacted, r)
	}
	if len(enacted) == 0 {
		return nil, why, nil
	}
	stored, err := save(enacted)
	if err != nil || !stored {
		return nil, "", err
	}
	missing := false
	for _, r := range enacted {
		if c, ok := d.board.Add(r); ok {
			d.opts.Notifier.Changed(r.Host, c)
		}
		missing = missing || !r.Endpoint.IsValid()
	}
	poke(d.changed)
	if missing {
		d.Wake()
	}
	return enacted, why, nil
}

// forbidden says what stands against redirecting a source at this moment; empty where nothing does.
func (d *Decider) forbidden(host string, source netip.Prefix, service event.Service) string {
	if d.paused.Load() {
		return OutcomePaused
	}
	if d.allow.Covers(source) {
		return OutcomeAllowed + ": the allow-list covers " + source.String()
	}
	if _, ok := d.board.Find(host, source, service); ok {
		return OutcomeKnown
	}
	return ""
}

// grant gives a redirect its endpoint, or says in Reason why there is none yet.
func (d *Decider) grant(ctx context.Context, r *event.Redirect) bool {
	ctx, cancel := context.WithTimeout(ctx, grantWithin)
	defer cancel()
	seen := d.opts.Hosts.Addresses(r.Host)
	l, err := d.opts.Leaser.Grant(ctx, event.LeaseRequest{
		Op: "grant", Attacker: r.Source, Host: r.Host, Service: r.Service, Seen: seen,
		Target: Target(r.Source, seen, r.Port), Known: d.logins.Load().Known(r.Source), Egress: r.Egress,
		Expires: r.ExpiresAt,
	})
	if err != nil {
		r.Reason = err.Error()
		if !errors.Is(err, ErrNoNode) {
			d.log.WarnContext(ctx, "no lease", "source", r.Source, "host", r.Host, "error", err)
		}
		return false
	}
	r.Endpoint, r.Node, r.LeaseID, r.Reason = l.Endpoint, l.Node, l.ID, ""
	return true
}

// ErrNoNode says that no honeypot node can take an attacker.
var ErrNoNode = errors.New("no honeypot node is connected that can take it: start one with kokkuri honeypot, or see kokkuri nodes ls")

// Target is where an attacker believes to be: the host's address that it most likely came to, one
// that it can reach, and of those the nearest.
func Target(attacker netip.Prefix, of []netip.Addr, port uint16) event.Target {
	var best netip.Addr
	rank := -1
	for _, a := range of {
		if a.Is4() != attacker.Addr().Is4() {
			continue
		}
		score := common(a, attacker.Addr())
		if !a.IsPrivate() {
			score += 256
		}
		if score > rank {
			best, rank = a, score
		}
	}
	if rank < 0 {
		return event.Target{}
	}
	return netip.AddrPortFrom(best, port)
}

// common counts the bits in which two addresses of a family begin alike.
func common(a, b netip.Addr) int {
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return 8 * len(x)
}
