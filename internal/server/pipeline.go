package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/decide"
	"github.com/kokkuri/kokkuri/internal/server/detect"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

const (
	// checkpointEvery bounds how much is read again after a crash. Reading again is harmless: it makes the same offences, and they are stored once.
	checkpointEvery   = time.Second
	checkpointBatches = 5000
)

// Checkpoint is where the pipeline goes on after a restart: what the detector remembers, together with the position in the stream.
type Checkpoint struct {
	Sequence uint64
	State    []byte
	Put      []decide.Login
	Gone     []decide.LoginKey
}

// checkpoints keeps the last checkpoint and what was learnt of logins.
type checkpoints interface {
	SaveCheckpoint(ctx context.Context, c Checkpoint) error
	LoadCheckpoint(ctx context.Context) (sequence uint64, state []byte, err error)
}

// batches is the stream of log lines.
type batches interface {
	ConsumeBatches(ctx context.Context, durable string, startAfter uint64, fn func(ctx context.Context, seq uint64, b event.Batch) error) error
}

// pipelineState is the State of a checkpoint.
type pipelineState struct {
	Detector []byte       `json:"detector"`
	Roads    []roadState  `json:"roads"`
	Clocks   []clockState `json:"clocks,omitempty"`
}

// pipeline reads the stream of lines: parse, detect, decide.
type pipeline struct {
	stream    batches
	store     checkpoints
	rules     detect.Rules // changes under mu
	onList    func(list string, source netip.Addr) bool
	newLogins func(ctx context.Context) (*decide.Logins, error)
	over      func(ctx context.Context, offence string) (bool, error) // its redirect has ended
	offence   func(ctx context.Context, id string) (event.Offence, error)
	decider   *decide.Decider
	trustUDP  []netip.Prefix
	http      parse.HTTPOptions
	roads     *roads
	counters  *counters
	tail      *tail
	now       func() time.Time
	log       *slog.Logger

	mu        sync.Mutex // over all below
	parser    *parse.Parser
	detector  *detect.Detector
	tally     tally
	clocks    clocks
	origins   origins
	second    map[string]time.Time            // host and road that last brought what another brings already
	seq       uint64                          // of the last batch that was evaluated
	current   atomic.Pointer[detect.Detector] // detector, for who must not wait for mu
	saved     uint64                          // of the last checkpoint
	restUntil time.Time                       // no other is made by the clock before
}

// run reads until ctx ends. What can't be stored is read again from the last checkpoint.
func (p *pipeline) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := p.once(ctx); err != nil && ctx.Err() == nil {
			p.log.ErrorContext(ctx, "the pipeline starts again from its last checkpoint", "error", err)
			pause(ctx, time.Second)
		}
	}
}

func (p *pipeline) once(ctx context.Context) error {
	if err := p.load(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	var saver sync.WaitGroup
	saver.Go(func() { stop(p.saveRegularly(ctx)) })
	err := p.stream.ConsumeBatches(ctx, "detect", p.seq, p.batch)
	stop(err)
	saver.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	// Once more with a context of its own: at a graceful stop nothing needs to be read again.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if saveErr := p.save(last); saveErr != nil {
		return saveErr
	}
	return err
}

func (p *pipeline) load(ctx context.Context) error {
	seq, state, err := p.store.LoadCheckpoint(ctx)
	if err != nil {
		return fmt.Errorf("load checkpoint: %w", err)
	}
	d := p.newDetector()
	var s pipelineState
	if len(state) > 0 {
		err := json.Unmarshal(state, &s)
		if err == nil {
			err = d.Restore(s.Detector)
		}
		if err != nil { // to detect nothing any more would be worse than to forget the last minutes
			p.log.ErrorContext(ctx, "the checkpoint is damaged: windows begin anew", "error", err)
			p.counters.add("checkpoints", "damaged")
			d, s = p.newDetector(), pipelineState{}
		}
	}
	// What ended after the checkpoint was made must not stay open.
	for _, o := range d.Open() {
		over, err := p.over(ctx, o.ID)
		if err != nil {
			return err
		}
		if over {
			d.Close(o.ID)
		}
	}
	logins, err := p.newLogins(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d.SetRules(p.rules) // they may have changed meanwhile
	p.parser, p.detector, p.seq, p.saved = parse.New(p.parserOptions()), d, seq, seq
	p.current.Store(d)
	p.roads.restore(s.Roads)
	p.clocks.restore(s.Clocks)
	p.second = map[string]time.Time{}
	p.decider.SetLogins(logins)
	return nil
}

func (p *pipeline) newDetector() *detect.Detector {
	p.mu.Lock()
	defer p.mu.Unlock()
	return detect.New(detect.Options{Rules: p.rules, OnList: p.onList})
}

// useRules exchanges the rules. The open offences of those in reopened end, so that what they do now reaches sources that
// offended before.
func (p *pipeline) useRules(rules detect.Rules, reopened []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = rules
	if p.detector == nil {
		return
	}
	p.detector.SetRules(rules)
	p.parser.SetPatterns(rules.Patterns)
	for _, o := range p.detector.Open() {
		if slices.Contains(reopened, o.Rule) && !p.decider.Board().OfOffence(o.ID) {
			p.detector.Close(o.ID)
		}
	}
}

// parserOptions are what the lines are read by. It reads the rules, over which the lock must be held.
func (p *pipeline) parserOptions() parse.Options {
	return parse.Options{HTTP: p.http, Patterns: p.rules.Patterns}
}

// batch evaluates one batch of lines.
func (p *pipeline) batch(ctx context.Context, seq uint64, b event.Batch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.tally.flush(p.counters)
	p.tally.add("lines", string(b.Road), int64(len(b.Lines)))
	var last latest
	for i, line := range b.Lines {
		if err := p.line(ctx, event.Position{Sequence: seq, Index: i}, b, line, &last); err != nil {
			return err
		}
	}
	p.learn(&b, &last)
	p.seq = seq
	if p.seq-p.saved >= checkpointBatches && !p.now().Before(p.restUntil) {
		return p.saveLocked(ctx)
	}
	return nil
}

func (p *pipeline) line(ctx context.Context, pos event.Position, b event.Batch, line []byte, last *latest) error {
	e, n := p.parser.Read(line, b.Received)
	last.add(n.Local, e.Time)
	if n.Forged || e.Kind != event.None {
		p.note(&b, e.Kind, n)
	}
	if e.Kind == event.None {
		return nil
	}
	e.Host = b.Host
	e.Time = p.clocks.correct(clockKey{b.Host, b.Road, n.Local}, e.Time, b.Received)
	switch {
	case b.Road == event.RoadSyslogUDP && !p.trusted(b.Origin):
		p.counters.add("events_untrusted", b.Host)
		return nil
	case !n.Beside && !p.roads.admit(roadKey{e.Host, e.Service}, b.Road, b.Received):
		p.second[b.Host+" "+string(b.Road)] = p.now()
		p.counters.add("events_second_road", b.Host+" "+string(b.Road))
		return nil
	}
	p.tally.add("events", string(e.Kind), 1)
	if e.Attempts > 0 {
		p.tally.add("guesses", string(e.Service), int64(e.Attempts))
	}
	if p.tail.watched() {
		seen := e
		p.tail.publish(api.Watched{Event: &seen})
	}
	offences := p.detector.Observe(pos, e, line)
	if e.Kind == event.AuthFailed || parse.ProvesLogin(e) {
		p.decider.ObserveLogin(event.SourcePrefix(e.Source, 64), e)
	}
	if len(offences) == 0 {
		return nil
	}
	at := p.now() // reading a line and detecting take microseconds
	for _, o := range offences {
		// Read again after a crash: the offence is stored, and its redirect has ended already.
		if o.Action == event.ActionRedirect {
			over, err := p.over(ctx, o.ID)
			if err != nil {
				return err
			}
			if over {
				p.detector.Close(o.ID)
				continue
			}
		}
		o.ReceivedAt, o.EventAt, o.FiredAt = b.Received, at, p.now()
		p.counters.add("offences", o.Rule)
		if err := p.decider.Offence(ctx, o); err != nil {
			return fmt.Errorf("decide about offence %s: %w", o.ID, err)
		}
	}
	return nil
}

// learn holds the latest times that a batch's lines state against when they came; what can't be trusted teaches nothing.
func (p *pipeline) learn(b *event.Batch, last *latest) {
	if b.Road == event.RoadSyslogUDP && !p.trusted(b.Origin) {
		return
	}
	for i, stated := range last {
		p.clocks.learn(clockKey{b.Host, b.Road, i == 1}, stated, b.Received)
	}
}

// note counts what of a line does not show in its event.
func (p *pipeline) note(b *event.Batch, k event.Kind, n parse.Note) {
	p.origins.note(b.Host, b.Road, k, n, b.Received)
	switch {
	case n.Forged:
		p.counters.add("lines_forged", b.Host+" "+string(n.Service))
	case n.NoAddress:
		p.counters.add("events_without_address", b.Host+" "+string(n.Service))
	}
}

// lineFindings are what doctor says of the lines that came: by whom they may have been written, what in them counts for
// nothing, and whose clock is off.
func (p *pipeline) lineFindings() []event.Finding {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.origins.findings(p.now())
	for _, c := range p.clocks.off() {
		by := "behind"
		if c.Offset > 0 {
			by = "ahead"
		}
		text, mend := fmt.Sprintf("the times in its lines by road %s are %s %s: they are mended", c.Road, c.Offset.Abs(), by), "set its clock: timedatectl set-ntp true"
		if c.Local {
			mend = "where its clock is right it is in another zone: let its syslog write times with a zone (rsyslog: RSYSLOG_SyslogProtocol23Format)"
		}
		out = append(out, event.Finding{Level: "warning", Subject: "host " + c.Host, Text: text, Mend: mend})
	}
	return out
}

// trusted reports whether an operator vouched for the network that a UDP line came from.
func (p *pipeline) trusted(origin string) bool {
	a, err := netip.ParseAddr(origin)
	if err != nil {
		if ap, err := netip.ParseAddrPort(origin); err == nil {
			a = ap.Addr()
		}
	}
	for _, n := range p.trustUDP {
		if n.Contains(event.Canonical(a)) {
			return true
		}
	}
	return false
}

// plausible is the time that a line states, unless it is in the future or so far back that the
// sender's clock must be wrong.
func plausible(stated, received time.Time) time.Time {
	const ahead, behind = 5 * time.Minute, 7 * 24 * time.Hour
	if stated.IsZero() || stated.After(received.Add(ahead)) || stated.Before(received.Add(-behind)) {
		return received
	}
	return stated
}

// passing is how long an offence that redirected nobody stays open: what stood against it may be over.
const passing = 10 * time.Minute

// reopen lets rules fire again for offences that redirected nobody, and are as old as minAge.
func (p *pipeline) reopen(ctx context.Context, minAge time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.detector == nil {
		return nil
	}
	for _, open := range p.detector.Open() {
		if p.decider.Board().OfOffence(open.ID) || !open.Group.Source.IsValid() {
			continue
		}
		o, err := p.offence(ctx, open.ID)
		if errors.Is(err, fs.ErrNotExist) {
			continue // not stored yet
		}
		if err != nil {
			return fmt.Errorf("look at open offences: %w", err)
		}
		if o.Action == event.ActionRedirect && p.now().Sub(o.FiredAt) >= minAge {
			p.detector.Close(open.ID)
		}
	}
	return nil
}

// secondRoads are the roads that brought, within the last hour, what another brings already.
func (p *pipeline) secondRoads() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for road, at := range p.second {
		if p.now().Sub(at) < time.Hour {
			out = append(out, road)
		}
	}
	slices.Sort(out)
	return out
}

// drops counts what the detector and the memory of logins left out.
func (p *pipeline) drops() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.detector == nil {
		return nil
	}
	st := p.detector.Stats()
	return map[string]int64{
		"groups_evicted": int64(st.Evicted), "heavy_groups_evicted": int64(st.EvictedHeavy), "events_late": int64(st.Late),
		"conditions_unanswered": int64(st.Conditions), "open_evicted": int64(st.EvictedOpen), "logins_evicted": int64(st.EvictedLogins) + p.decider.Logins().Evicted(),
		"without_group": int64(st.NoGroup), "replayed": int64(st.Replayed),
	}
}

func (p *pipeline) saveRegularly(ctx context.Context) error {
	tick, sweep := time.NewTicker(checkpointEvery), time.NewTicker(time.Minute)
	defer tick.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			if err := p.reopen(ctx, passing); err != nil {
				return err
			}
		case <-tick.C:
			if p.rests() {
				continue
			}
			if err := p.save(ctx); err != nil {
				return err
			}
		}
	}
}

// restsFor is how long the pipeline goes on after a checkpoint, in times that it took: so those of a great memory take no
// more than a twentieth of the time.
const restsFor = 19

func (p *pipeline) rests() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now().Before(p.restUntil)
}

func (p *pipeline) save(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.saveLocked(ctx)
}

// saveLocked stores a checkpoint. It waits until all offences before it are stored.
func (p *pipeline) saveLocked(ctx context.Context) error {
	if p.seq == p.saved {
		return nil
	}
	begin := p.now()
	defer func() { p.restUntil = p.now().Add(restsFor * p.now().Sub(begin)) }()
	if err := p.decider.Flush(); err != nil {
		return fmt.Errorf("store offences: %w", err)
	}
	snapshot, err := p.detector.Snapshot()
	if err != nil {
		return fmt.Errorf("snapshot detector: %w", err)
	}
	state, err := json.Marshal(pipelineState{Detector: snapshot, Roads: p.roads.snapshot(), Clocks: p.clocks.snapshot()})
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	put, gone := p.decider.Logins().Changed()
	if err := p.store.SaveCheckpoint(ctx, Checkpoint{Sequence: p.seq, State: state, Put: put, Gone: gone}); err != nil {
		return fmt.Errorf("store checkpoint: %w", err)
	}
	p.saved = p.seq
	return nil
}

// ended lets a rule fire again for a source whose redirect is over.
func (p *pipeline) ended(r event.Redirect) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.detector != nil && r.OffenceID != "" && !p.decider.Board().OfOffence(r.OffenceID) {
		p.detector.Close(r.OffenceID)
	}
}

// position is the sequence of the last batch that was evaluated.
func (p *pipeline) position() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq
}

// roadsByHost are the roads by which each host's services are evaluated.
func (p *pipeline) roadsByHost() map[string][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string][]string{}
	for k, r := range p.roads.current {
		out[k.Host] = append(out[k.Host], string(k.Service)+" by "+string(r.Road))
	}
	return out
}

// spare are the source's open connections to a service whose login succeeded.
func (p *pipeline) spare(host string, s event.Service, source netip.Prefix) []netip.AddrPort {
	d := p.current.Load() // without the lock, which is held while the decider's workers are waited for
	if d == nil {
		return nil
	}
	return d.Logins(host, s, source)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
