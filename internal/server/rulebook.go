package server

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
	"github.com/kokkuri/kokkuri/internal/server/lists"
	"github.com/kokkuri/kokkuri/internal/store"
)

// overrides keeps what operators say of rules.
type overrides interface {
	RuleOverrides(ctx context.Context) ([]store.RuleOverride, error)
	SetRuleOverride(ctx context.Context, o store.RuleOverride) error
}

// rulebook is the rules as their files say, and what operators say of them. It is safe for concurrent use.
type rulebook struct {
	path  string // empty: the rules as shipped
	store overrides
	lists *lists.Set
	// use hands rules over to the detector; reopened names those whose open offences end, since they act otherwise now.
	use func(rules detect.Rules, reopened []string)
	now func() time.Time
	log *slog.Logger

	mu    sync.Mutex
	rules detect.Rules // as the files say
	said  []store.RuleOverride
	fault string // what is wrong with the files since; empty where nothing is
	since time.Time
}

// load reads the rules for the first time.
func (b *rulebook) load(ctx context.Context) (detect.Rules, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rules, err := loadRules(b.path)
	if err != nil {
		return rules, err
	}
	if err := rules.RunExamples().Err(); err != nil { // no reason not to detect at all
		b.fault, b.since = "examples of the rules fail: "+err.Error(), b.now()
		b.log.WarnContext(ctx, "examples of the rules do not come out as they say", "error", err)
	}
	if b.said, err = b.store.RuleOverrides(ctx); err != nil {
		return rules, err
	}
	b.rules = rules
	b.lists.Configure(listsOf(rules))
	return b.inForce(), nil
}

// reload reads the rules again. All that can fail is done before anything changes: bad rules change nothing.
func (b *rulebook) reload(ctx context.Context) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rules, err := loadRules(b.path)
	if err == nil {
		err = rules.RunExamples().Err()
	}
	if err != nil {
		b.fault, b.since = "the files are bad, and the rules from before hold: "+err.Error(), b.now()
		b.log.ErrorContext(ctx, "rules not reloaded: the former ones hold", "error", err)
		return 0, err
	}
	b.rules, b.fault = rules, ""
	b.lists.Configure(listsOf(rules))
	b.use(b.inForce(), nil)
	b.log.InfoContext(ctx, "rules reloaded", "rules", len(rules.Rules))
	return len(rules.Rules), nil
}

// set stores what an operator says of a rule, and has it hold.
func (b *rulebook) set(ctx context.Context, o store.RuleOverride) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.rules.Find(o.Rule); !ok {
		return fmt.Errorf("rule %s: %w", o.Rule, fs.ErrNotExist)
	}
	o.ChangedAt = b.now()
	if err := b.store.SetRuleOverride(ctx, o); err != nil {
		return err //nolint:wrapcheck // it says what failed
	}
	b.said = slices.DeleteFunc(b.said, func(x store.RuleOverride) bool { return x.Rule == o.Rule })
	if o.Disabled || o.Redirect {
		b.said = append(b.said, o)
	}
	b.use(b.inForce(), []string{o.Rule})
	return nil
}

// inForce are the rules as operators left them; the lock is held.
func (b *rulebook) inForce() detect.Rules {
	var said []detect.Override
	for _, o := range b.said {
		said = append(said, detect.Override{Rule: o.Rule, Disabled: o.Disabled, Redirect: o.Redirect})
	}
	return b.rules.Apply(said)
}

// all returns the rules as the files say, those in force, and what operators said.
func (b *rulebook) all() (file, inForce detect.Rules, said []store.RuleOverride) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rules, b.inForce(), slices.Clone(b.said)
}

// findings are what doctor has to say of the rules.
func (b *rulebook) findings() []event.Finding {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []event.Finding
	if b.fault != "" {
		out = append(out, event.Finding{
			Level: "error", Subject: "rules", Text: cut(fmt.Sprintf("since %s: %s", b.since.UTC().Format(time.RFC3339), b.fault)),
			Mend: "mend the file, then kokkuri rules reload",
		})
	}
	for _, o := range b.said {
		rule, ok := b.rules.Find(o.Rule)
		if !ok {
			out = append(out, event.Finding{Level: "warning", Subject: "rule " + o.Rule, Text: "an operator changed it, and there is no such rule any more", Mend: "kokkuri rules enable of the rule that took its place"})
		} else if err := rule.CanRedirect(); o.Redirect && err != nil {
			out = append(out, event.Finding{Level: "warning", Subject: "rule " + o.Rule, Text: "an operator turned redirecting on, and the rule can't redirect any more: " + err.Error(), Mend: "change the rule, or kokkuri rules enable " + o.Rule})
		}
	}
	return append(out, b.lists.Findings()...)
}

func listsOf(r detect.Rules) []lists.Source {
	var out []lists.Source
	for _, l := range r.Lists {
		out = append(out, lists.Source(l))
	}
	return out
}
