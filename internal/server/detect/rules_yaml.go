package detect

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/kokkuri/kokkuri/internal/event"
)

// ParseRules reads a rule set from YAML; name stands for the file in errors, services are those that rules may
// name beyond [event.Services]. All faults are reported, joined, each a [RuleError].
func ParseRules(name string, data []byte, services ...event.Service) (Rules, error) {
	return parseAll([]namedFile{{name, data}}, services)
}

func (d *decoder) rules(n ast.Node) Rules {
	var out Rules
	known := map[string]bool{}
	d.mapping(n, "", []field{
		{"version", true, func(n ast.Node, key string) {
			d.number(n, key, 1, 1)
		}},
		{"include", false, func(n ast.Node, key string) {
			d.include = len(listOf(d, n, key, shippedSet)) > 0
		}},
		{"rules", true, func(n ast.Node, key string) {
			items := d.sequence(n, key)
			if len(items) > maxRules {
				d.fail(n, key, strconv.Itoa(len(items))+" rules", fmt.Sprintf("at most %d", maxRules))
				return
			}
			for i, item := range items {
				r := d.rule(item, fmt.Sprintf("%s[%d]", key, i))
				if known[r.Name] && r.Name != "" {
					d.fail(item, fmt.Sprintf("%s[%d].name", key, i), strconv.Quote(r.Name)+" a second time", "each name once")
				}
				known[r.Name] = true
				out.Rules = append(out.Rules, r)
			}
		}},
		{"parsers", false, func(ast.Node, string) {}}, // patternsOf reads them
		{"lists", false, func(n ast.Node, key string) {
			for i, item := range d.sequence(n, key) {
				out.Lists = append(out.Lists, d.list(item, fmt.Sprintf("%s[%d]", key, i)))
			}
		}},
		{"examples", false, func(n ast.Node, key string) {
			for i, item := range d.sequence(n, key) {
				out.Examples = append(out.Examples, d.example(item, fmt.Sprintf("%s[%d]", key, i)))
			}
		}},
	})
	return out
}

// shippedSet is what include may name.
const shippedSet = "shipped"

func (d *decoder) rule(n ast.Node, key string) Rule {
	r := Rule{File: d.file, Line: n.GetToken().Position.Line, IPv4Prefix: 32, IPv6Prefix: 64, Severity: event.SeverityMedium, Scope: event.ScopeService}
	where := d.mapping(n, key, []field{
		{"name", true, func(n ast.Node, key string) { r.Name = d.name(n, key) }},
		{"about", false, func(n ast.Node, key string) { r.About = d.text(n, key) }},
		{"service", true, func(n ast.Node, key string) { r.Services = d.serviceOf(n, key) }},
		{"kinds", false, func(n ast.Node, key string) {
			r.Kinds = listOf(d, n, key, event.AuthFailed, event.AuthOK, event.Probe, event.Context)
		}},
		{"if", false, func(n ast.Node, key string) { r.If = d.condition(n, key) }},
		{"source_in", false, func(n ast.Node, key string) { r.SourceIn = d.name(n, key) }},
		{"group_by", true, func(n ast.Node, key string) { r.GroupBy = listOf(d, n, key, BySource, ByHost, ByAccount) }},
		{"ipv4_prefix", false, func(n ast.Node, key string) { r.IPv4Prefix = d.number(n, key, 8, 32) }},
		{"ipv6_prefix", false, func(n ast.Node, key string) { r.IPv6Prefix = d.number(n, key, 32, 128) }},
		{"count", true, func(n ast.Node, key string) { r.Count = d.number(n, key, 1, maxCount) }},
		{"distinct", false, func(n ast.Node, key string) {
			r.Distinct = oneOf(d, n, key, ByAccount, BySource, ByHost, Method, Resource)
		}},
		{"then", false, func(n ast.Node, key string) { r.Then = oneOf(d, n, key, event.AuthOK, event.AuthFailed, event.Probe) }},
		{"contributors", false, func(n ast.Node, key string) { r.Contributors = d.number(n, key, 2, 1000) }},
		{"within", true, func(n ast.Node, key string) { r.Within = d.duration(n, key) }},
		{"action", true, func(n ast.Node, key string) {
			r.Action = oneOf(d, n, key, event.ActionRedirect, event.ActionAlert, event.ActionDryRun)
		}},
		{"severity", false, func(n ast.Node, key string) { r.Severity = oneOf(d, n, key, event.Severities()...) }},
		{"scope", false, func(n ast.Node, key string) {
			r.Scope = oneOf(d, n, key, event.ScopeService, event.ScopeTrapped, event.ScopeFleet)
		}},
		{"egress", false, func(n ast.Node, key string) { r.Egress = oneOf(d, n, key, event.EgressPolicies()...) }},
		{"for", true, func(n ast.Node, key string) { r.For = d.steps(n, key) }},
	})
	if r.Kinds == nil {
		r.Kinds = []event.Kind{event.AuthFailed}
	}
	r.sourceIn = place{key: key + ".source_in"}
	if at, ok := where["source_in"]; ok {
		r.sourceIn.line = at.GetToken().Position.Line
	}
	d.together(key, r, func(name string) ast.Node {
		if at, ok := where[name]; ok {
			return at
		}
		return n
	})
	return r
}

// together checks what the keys of a rule say of each other.
func (d *decoder) together(key string, r Rule, at func(name string) ast.Node) {
	if r.Distinct != "" {
		if r.Groups(r.Distinct) {
			d.fail(at("distinct"), key+".distinct", fmt.Sprintf("%q, which group_by has too", r.Distinct), "a field that group_by does not have")
		}
		if r.Count < 2 || r.Count > maxDistinct {
			d.fail(at("count"), key+".count", strconv.Itoa(r.Count)+" with distinct", fmt.Sprintf("a whole number from 2 to %d", maxDistinct))
		}
	}
	if r.Distinct == "" && slices.Contains(r.Kinds, event.Context) {
		d.fail(at("kinds"), key+".kinds", "context without distinct", "context, which restates events, only where different values are counted (distinct)")
	}
	if r.Then != "" && slices.Contains(r.Kinds, r.Then) {
		d.fail(at("then"), key+".then", fmt.Sprintf("%q, which kinds has too", r.Then), "a kind that kinds does not have")
	}
	if r.Contributors > 0 && (r.Distinct != BySource || r.Then != "") {
		d.fail(at("contributors"), key+".contributors", "contributors without distinct: source", "a rule with distinct: source, and without then")
	}
	if r.Action == event.ActionAlert || r.Action == "" || len(r.GroupBy) == 0 {
		return
	}
	switch err := r.CanRedirect(); {
	case errors.Is(err, errNoSource):
		d.fail(at("action"), key+".action", string(r.Action)+" without source in group_by", "alert, group_by with source, or contributors")
	case errors.Is(err, errNoHost):
		d.fail(at("action"), key+".action", string(r.Action)+" without host in group_by", "alert, group_by with source and host, or scope: fleet")
	case errors.Is(err, errWide):
		d.fail(at("action"), key+".action", fmt.Sprintf("%s of sources by ipv4_prefix %d and ipv6_prefix %d", r.Action, r.IPv4Prefix, r.IPv6Prefix), "alert, or ipv4_prefix 32 and ipv6_prefix 64 or 128")
	}
}

// serviceOf reads one service, a list of them, or any.
func (d *decoder) serviceOf(n ast.Node, key string) []event.Service {
	allowed := append([]event.Service{anyService}, d.services...)
	if _, ok := n.(*ast.SequenceNode); ok {
		return listOf(d, n, key, d.services...)
	}
	s := oneOf(d, n, key, allowed...)
	if s == anyService {
		return nil
	}
	return []event.Service{s}
}

// anyService stands for all of them.
const anyService event.Service = "any"

// shortened is the beginning of a text that is too long for an error.
func shortened(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

func (d *decoder) condition(n ast.Node, key string) *Condition {
	text := d.text(n, key)
	if text == "" {
		d.fail(n, key, "nothing", conditionAllowed)
		return nil
	}
	c, err := NewCondition(text)
	if err != nil {
		d.fail(n, key, strconv.Quote(shortened(text))+": "+err.Error(), conditionAllowed)
		return nil
	}
	return c
}

// steps reads one time, or a list of them that do not get shorter.
func (d *decoder) steps(n ast.Node, key string) []time.Duration {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		return []time.Duration{d.duration(n, key)}
	}
	if len(s.Values) == 0 || len(s.Values) > maxSteps {
		d.fail(n, key, strconv.Itoa(len(s.Values))+" times", fmt.Sprintf("from 1 to %d times", maxSteps))
		return []time.Duration{time.Second}
	}
	var out []time.Duration
	for i, item := range s.Values {
		at := fmt.Sprintf("%s[%d]", key, i)
		faults := len(d.faults)
		step := d.duration(item, at)
		if i > 0 && step < out[i-1] && len(d.faults) == faults {
			d.fail(item, at, describe(item)+" after a longer time", "times that do not get shorter")
		}
		out = append(out, step)
	}
	return out
}

func (d *decoder) list(n ast.Node, key string) List {
	l := List{Refresh: usualRefresh, MaxEntries: usualEntries}
	d.mapping(n, key, []field{
		{"name", true, func(n ast.Node, key string) { l.Name = d.name(n, key) }},
		{"file", false, func(n ast.Node, key string) {
			if l.File = d.text(n, key); !filepath.IsAbs(l.File) {
				d.fail(n, key, strconv.Quote(l.File), "an absolute path")
			}
		}},
		{"url", false, func(n ast.Node, key string) {
			l.URL = d.text(n, key)
			if u, err := url.Parse(l.URL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
				d.fail(n, key, strconv.Quote(l.URL), "an http or https URL")
			}
		}},
		{"refresh", false, func(n ast.Node, key string) {
			if l.Refresh = d.duration(n, key); l.Refresh < shortestRefresh {
				d.fail(n, key, describe(n), "1m or more")
			}
		}},
		{"max_entries", false, func(n ast.Node, key string) { l.MaxEntries = d.number(n, key, 1, maxListEntries) }},
		{"optional", false, func(n ast.Node, key string) { l.Optional = d.flag(n, key) }},
	})
	if (l.File == "") == (l.URL == "") {
		d.fail(n, key, "both or neither of file and url", "either of them")
	}
	return l
}

func (d *decoder) example(n ast.Node, key string) Example {
	e := Example{File: d.file, Line: n.GetToken().Position.Line, key: key}
	d.mapping(n, key, []field{
		{"name", true, func(n ast.Node, key string) { e.Name = d.text(n, key) }},
		{"lines", true, func(n ast.Node, key string) { e.Lines = d.texts(n, key) }},
		{"parsers", false, func(ast.Node, string) {}}, // patternsOf reads them
		{"lists", false, func(n ast.Node, key string) {
			e.Lists = map[string][]string{}
			values, _ := d.values(n, key)
			for _, v := range values {
				name := v.Key.GetToken().Value
				e.Lists[name] = d.texts(v.Value, key+"."+name)
				for i, text := range e.Lists[name] {
					if _, err := netip.ParsePrefix(text); err != nil {
						d.fail(v.Value, fmt.Sprintf("%s.%s[%d]", key, name, i), strconv.Quote(text), "a network such as 203.0.113.0/24")
					}
				}
			}
		}},
		{"offences", true, func(n ast.Node, key string) {
			e.Offences = map[string]int{}
			values, _ := d.values(n, key)
			for _, v := range values {
				rule := v.Key.GetToken().Value
				e.Offences[rule] = d.number(v.Value, key+"."+rule, 0, 1_000_000)
			}
		}},
	})
	return e
}
