package server

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
	"github.com/kokkuri/kokkuri/internal/server/parse"
	"github.com/kokkuri/kokkuri/internal/store"
)

// Rules implements api.Rules.
func (b backend) Rules(context.Context) ([]api.Rule, error) {
	file, inForce, said := b.s.rules.all()
	live := map[string]int{}
	for _, r := range b.s.decider.Board().Live(nil) {
		live[r.Rule]++
	}
	out := []api.Rule{}
	for _, r := range file.Rules {
		now, enabled := inForce.Find(r.Name)
		if !enabled {
			now = r
		}
		x := api.Rule{
			Name: r.Name, About: r.About, File: r.File, Line: r.Line, Services: orEmpty(r.Services), Kinds: r.Kinds, If: r.If.String(), SourceIn: r.SourceIn,
			Count: r.Count, Distinct: string(r.Distinct), Then: r.Then, Within: span(r.Within), Severity: r.Severity, Scope: r.Scope,
			Action: now.Action, FileAction: r.Action, Disabled: !enabled, Redirects: live[r.Name],
		}
		for _, f := range r.GroupBy {
			x.GroupBy = append(x.GroupBy, string(f))
		}
		for _, d := range r.For {
			x.For = append(x.For, span(d))
		}
		for _, o := range said {
			if o.Rule == r.Name {
				x.Overridden, x.ChangedAt = true, o.ChangedAt
			}
		}
		out = append(out, x)
	}
	return out, nil
}

// span writes a time as rules do.
func span(d time.Duration) string {
	s := d.String()
	if d%time.Minute == 0 {
		s = strings.TrimSuffix(s, "0s")
	}
	if d%time.Hour == 0 {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// SetRule implements api.Rules.
func (b backend) SetRule(ctx context.Context, name string, set api.SetRule) (api.RuleSet, error) {
	file, before, _ := b.s.rules.all()
	rule, ok := file.Find(name)
	if !ok {
		return api.RuleSet{}, fmt.Errorf("rule %s: %w", name, fs.ErrNotExist)
	}
	if err := rule.CanRedirect(); set.Redirect && err != nil {
		return api.RuleSet{}, api.Refused("rule "+name+" can't redirect: "+err.Error(), "docs/rules.md says what a rule that redirects must have")
	}
	if set.Redirect && set.Disabled {
		return api.RuleSet{}, api.Refused("a rule is either disabled or redirects", "")
	}
	if err := b.s.rules.set(ctx, store.RuleOverride{Rule: name, Disabled: set.Disabled, Redirect: set.Redirect}); err != nil {
		return api.RuleSet{}, err
	}
	out := api.RuleSet{Released: []event.Redirect{}}
	_, after, _ := b.s.rules.all()
	was, _ := before.Find(name)
	if is, enabled := after.Find(name); was.Action == event.ActionRedirect && (!enabled || is.Action != event.ActionRedirect) {
		released, err := b.release(ctx, func(r event.Redirect) bool { return r.Rule == name }, "its rule does not redirect any more")
		if err != nil {
			return api.RuleSet{}, err
		}
		out.Released = released
	}
	all, err := b.Rules(ctx)
	if err != nil {
		return api.RuleSet{}, err
	}
	if i := slices.IndexFunc(all, func(r api.Rule) bool { return r.Name == name }); i >= 0 {
		out.Rule = all[i]
	}
	return out, nil
}

// ReloadRules implements api.Rules.
func (b backend) ReloadRules(ctx context.Context) (api.Reloaded, error) {
	n, err := b.s.rules.reload(ctx)
	if err != nil {
		return api.Reloaded{}, api.Refused("the rules were not reloaded, and the former ones hold:\n"+err.Error(), "mend the file and try again; kokkuri rules test FILE checks it")
	}
	return api.Reloaded{Rules: n}, nil
}

// previewed is how many offences of a preview are told of one by one.
const previewed = 200

// PreviewRule implements api.Rules: the rule alone, redirecting, over the lines that the stream still has. What would stand against
// a redirect is asked of today's allow-list and logins.
func (b backend) PreviewRule(ctx context.Context, name string) (api.RulePreview, error) {
	file, _, _ := b.s.rules.all()
	rule, ok := file.Find(name)
	if !ok {
		return api.RulePreview{}, fmt.Errorf("rule %s: %w", name, fs.ErrNotExist)
	}
	if err := rule.CanRedirect(); err != nil {
		return api.RulePreview{}, api.Refused("rule "+name+" can't redirect: "+err.Error(), "docs/rules.md says what a rule that redirects must have")
	}
	rule.Action = event.ActionRedirect
	out := api.RulePreview{Rule: name, Offences: []api.PreviewOffence{}}
	d := detect.New(detect.Options{Rules: detect.Rules{Rules: []detect.Rule{rule}, Lists: file.Lists}, OnList: b.s.lists.Contains})
	past := &pipeline{trustUDP: b.s.pipeline.trustUDP, roads: &roads{fixed: b.s.pipeline.roads.fixed, current: map[roadKey]road{}}}
	parser := parse.New(parse.Options{HTTP: b.s.pipeline.http, Patterns: file.Patterns})
	err := b.s.conn.ReadBatches(ctx, func(ctx context.Context, seq uint64, batch event.Batch) error {
		var last latest
		w := past.weigher(&batch)
		defer func() { w.learn(&last) }()
		for i, line := range batch.Lines {
			out.Lines++
			e, n := parser.Read(line, batch.Received)
			last.add(n.Local, e.Time)
			if e.Kind == event.None || w.weigh(&e, n) != counts {
				continue
			}
			out.Events++
			if out.From.IsZero() || e.Time.Before(out.From) {
				out.From = e.Time
			}
			if e.Time.After(out.To) {
				out.To = e.Time
			}
			for _, o := range d.Observe(event.Position{Sequence: seq, Index: i}, e, line) {
				b.previewed(&out, o, line)
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return api.RulePreview{}, fmt.Errorf("look at what rule %s would have done: %w", name, err)
	}
	return out, nil
}

func (b backend) previewed(out *api.RulePreview, o event.Offence, line []byte) {
	against := b.s.decider.Preview(o)
	if out.Total++; against == "" {
		out.Redirect++
	} else {
		out.Spared++
	}
	if len(out.Offences) < previewed {
		out.Offences = append(out.Offences, api.PreviewOffence{
			Source: o.Source, Host: o.Host, Service: o.Service, Account: o.Account, Count: o.Count, First: o.First, Last: o.Last, Against: against,
			Line: string(line[:min(len(line), maxText)]),
		})
	}
}
