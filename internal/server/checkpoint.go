package server

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/kokkuri/kokkuri/internal/server/decide"
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

// pipelineState is the State of a checkpoint.
type pipelineState struct {
	Detector []byte       `json:"detector"`
	Roads    []roadState  `json:"roads"`
	Clocks   []clockState `json:"clocks,omitempty"`
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
	last, err := p.stream.LastBatch(ctx)
	if err != nil {
		return fmt.Errorf("load checkpoint: %w", err)
	}
	logins, err := p.newLogins(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d.SetRules(p.rules) // they may have changed meanwhile
	p.joiner, p.detector, p.seq, p.saved = &parse.Joiner{}, d, seq, seq
	p.reopened = false
	if p.before = max(p.before, p.begun); p.begun == 0 { // the process has just begun: an earlier one may have evaluated all there is
		p.before = last
	}
	p.again = lineReader{http: p.http}
	p.patterns.Store(p.rules.Patterns)
	p.current.Store(d)
	p.roads.restore(s.Roads)
	p.clocks.restore(s.Clocks)
	p.second = map[string]time.Time{}
	p.decider.SetLogins(logins)
	return nil
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
	if p.seq == p.saved && !p.reopened {
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
	p.saved, p.reopened = p.seq, false
	return nil
}
