package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
)

// useRules exchanges the rules. The open offences of those in reopened end, so that what they do now reaches sources that
// offended before.
func (p *pipeline) useRules(rules detect.Rules, reopened []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = rules
	p.patterns.Store(rules.Patterns)
	if p.detector == nil {
		return
	}
	p.detector.SetRules(rules)
	for _, o := range p.detector.Open() {
		if slices.Contains(reopened, o.Rule) && !p.decider.Board().OfOffence(o.ID) {
			p.close(o.ID)
		}
	}
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
		if p.decider.Board().OfOffence(open.ID) || !open.Group.Source.IsValid() && !open.Contributor {
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
			p.close(open.ID)
		}
	}
	return nil
}

// ended lets a rule fire again for a source whose redirect is over.
func (p *pipeline) ended(r event.Redirect) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.detector != nil && r.OffenceID != "" && !p.decider.Board().OfOffence(r.OffenceID) {
		p.close(r.OffenceID)
	}
}

// close ends an open offence, which the next checkpoint must know of though no line came.
func (p *pipeline) close(offence string) {
	if p.detector.Close(offence) {
		p.reopened = true
	}
}
