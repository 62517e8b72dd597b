package cli

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// peopleLimit is how many records people see unless they ask for more; programs get all.
const peopleLimit = 50

// listFlags narrow a list.
type listFlags struct {
	client

	Host   string `help:"Only of this host." placeholder:"HOST"`
	Source string `help:"Only of sources in this address or network." placeholder:"ADDR|CIDR"`
	Limit  *int   `help:"Most records, newest first; 0: all. Without it tables have 50, JSON has all." placeholder:"N"`
}

func (f listFlags) filter(json bool) (api.Filter, error) {
	out := api.Filter{Host: f.Host}
	if !json {
		out.Limit = peopleLimit
	}
	if f.Limit != nil {
		if out.Limit = *f.Limit; out.Limit < 0 {
			return out, &usageError{text: fmt.Sprintf("--limit: found %d", out.Limit), hint: "allowed: 0 (all) or more"}
		}
	}
	if f.Source != "" {
		p, err := config.ParsePrefix(f.Source)
		if err != nil {
			return out, &usageError{text: fmt.Sprintf("--source: found %q", f.Source), hint: "allowed: " + err.Error()}
		}
		out.Source = p
	}
	return out, nil
}

// view is how the records of a path are shown to people.
type view[T any] struct {
	path    string
	headers []string
	row     func(a *app, v T) []cell
	empty   string
	fields  func(a *app, v T) []field
	more    func(a *app, v T) error // after the fields
}

// list asks for records and prints them.
func (v view[T]) list(ctx context.Context, a *app, c client, f api.Filter) error {
	server, err := a.connect(c)
	if err != nil {
		return err
	}
	asked := f
	if asked.Limit > 0 {
		asked.Limit++ // to know whether there are more
	}
	records, err := api.List[T](ctx, server, v.path, asked)
	if err != nil {
		return err
	}
	more := f.Limit > 0 && len(records) > f.Limit
	if more {
		records = records[:f.Limit]
	}
	if a.wantsJSON(c.output) {
		if records == nil {
			records = []T{}
		}
		return a.json(records)
	}
	rows := make([][]cell, len(records))
	for i, r := range records {
		rows[i] = v.row(a, r)
	}
	if err := a.table(v.headers, rows, v.empty); err != nil {
		return err
	}
	if more {
		a.warnf("there are more: --limit 0 shows all")
	}
	return nil
}

// show asks for one record and prints it.
func (v view[T]) show(ctx context.Context, a *app, c client, id string) error {
	server, err := a.connect(c)
	if err != nil {
		return err
	}
	record, err := api.Show[T](ctx, server, v.path, id)
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(record)
	}
	if err := a.fields(v.fields(a, record)); err != nil || v.more == nil {
		return err
	}
	return v.more(a, record)
}

func redirectView() view[event.Redirect] {
	return view[event.Redirect]{
		path:    api.PathRedirects,
		headers: []string{"SOURCE", "HOST", "SERVICE", "STATE", "ENDPOINT", "RULE", "SINCE", "UNTIL", "ID"},
		empty:   "Nobody is redirected.",
		row: func(a *app, r event.Redirect) []cell {
			until := r.ExpiresAt
			state := stateCell(r.State)
			ends := a.ago(until)
			if !r.State.Live() {
				ends = ""
			}
			return []cell{
				plain(address(r.Source)), plain(r.Host), plain(string(r.Service)), state, plain(endpoint(r.Endpoint)), plain(r.Rule),
				plain(a.ago(r.CreatedAt)), plain(ends), plain(r.ID),
			}
		},
		fields: func(a *app, r event.Redirect) []field {
			return []field{
				{"id", r.ID},
				{"source", r.Source.String()},
				{"host", r.Host},
				{"service", fmt.Sprintf("%s (port %d)", r.Service, r.Port)},
				{"endpoint", endpoint(r.Endpoint)},
				{"node", r.Node},
				{"state", string(r.State)},
				{"reason", r.Reason},
				{"rule", r.Rule},
				{"offence", r.OffenceID},
				{"created", a.stamp(r.CreatedAt)},
				{"applied", a.stamp(r.AppliedAt)},
				{"expires", a.stamp(r.ExpiresAt)},
				{"spared", joined(r.Spare)},
			}
		},
	}
}

// address writes a prefix of one address as that address.
func address(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return ""
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

func endpoint(ap netip.AddrPort) string {
	if !ap.IsValid() {
		return ""
	}
	return ap.String()
}

func stateCell(s event.State) cell {
	switch s {
	case event.Active:
		return cell{string(s), green}
	case event.Pending:
		return cell{string(s), yellow}
	case event.Refused:
		return cell{string(s), red}
	case event.Released, event.Expired:
		return cell{string(s), dim}
	}
	return plain(string(s))
}

func offenceView() view[event.Offence] {
	return view[event.Offence]{
		path:    api.PathOffences,
		headers: []string{"SOURCE", "HOST", "SERVICE", "RULE", "COUNT", "WHEN", "OUTCOME", "ID"},
		empty:   "No rule has fired.",
		row: func(a *app, o event.Offence) []cell {
			who := address(o.Source)
			if who == "" {
				who = "account " + o.Account
			}
			return []cell{
				plain(who), plain(o.Host), plain(string(o.Service)), plain(o.Rule), plain(strconv.Itoa(o.Count)), plain(a.ago(o.FiredAt)),
				plain(o.Outcome), plain(o.ID),
			}
		},
		fields: func(a *app, o event.Offence) []field {
			return []field{
				{"id", o.ID},
				{"rule", o.Rule},
				{"source", address(o.Source)},
				{"host", o.Host},
				{"service", string(o.Service)},
				{"account", o.Account},
				{"count", strconv.Itoa(o.Count)},
				{"first", a.stamp(o.First)},
				{"last", a.stamp(o.Last)},
				{"fired", a.stamp(o.FiredAt)},
				{"severity", string(o.Severity)},
				{"action", string(o.Action)},
				{"outcome", o.Outcome},
				{"spared", joined(o.Logins)},
				{"proof", fmt.Sprintf("%d lines", len(o.Proof))},
			}
		},
		more: func(a *app, o event.Offence) error {
			var list []field
			for _, p := range o.Proof {
				list = append(list, field{"  " + p.Position.String(), p.Line})
			}
			return a.fields(list)
		},
	}
}

// short is the part of a container's id that people use.
func short(id string) string { return id[:min(len(id), 12)] }

func potView() view[event.Pot] {
	return view[event.Pot]{
		path:    api.PathPots,
		headers: []string{"NAME", "ATTACKER", "HOST", "NODE", "STATE", "ADDRESS", "CREATED", "ID"},
		empty:   "No attacker has a pot.",
		row: func(a *app, p event.Pot) []cell {
			state := plain(p.State)
			if p.State == "running" {
				state.style = green
			}
			addr := ""
			if p.Address.IsValid() {
				addr = p.Address.String()
			}
			return []cell{
				plain(p.Name), plain(address(p.Attacker)), plain(p.Host), plain(p.Node), state, plain(addr), plain(a.ago(p.CreatedAt)), plain(short(p.ID)),
			}
		},
		fields: func(a *app, p event.Pot) []field {
			return []field{
				{"name", p.Name},
				{"id", p.ID},
				{"attacker", p.Attacker.String()},
				{"host", p.Host},
				{"node", p.Node},
				{"image", p.Image},
				{"address", ifValid(p.Address)},
				{"state", p.State},
				{"created", a.stamp(p.CreatedAt)},
				{"last seen", a.stamp(p.LastSeen)},
			}
		},
	}
}

func ifValid(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func attackerView() view[api.Attacker] {
	return view[api.Attacker]{
		path:    api.PathAttackers,
		headers: []string{"SOURCE", "LAST SEEN", "FIRST SEEN", "OFFENCES", "GUESSES", "REDIRECTS", "SESSIONS", "HOSTS"},
		empty:   "No attacker is known.",
		row: func(a *app, t api.Attacker) []cell {
			redirects := plain(strconv.Itoa(t.Redirects))
			if t.Live > 0 {
				redirects = cell{fmt.Sprintf("%d (live)", t.Redirects), green}
			}
			return []cell{
				plain(address(t.Source)), plain(a.ago(t.LastSeen)), plain(a.ago(t.FirstSeen)), plain(strconv.Itoa(t.Offences)), plain(strconv.Itoa(t.Guesses)),
				redirects, plain(strconv.Itoa(t.Sessions)), plain(joined(t.Hosts)),
			}
		},
		fields: func(a *app, t api.Attacker) []field {
			return []field{
				{"source", t.Source.String()},
				{"first seen", a.stamp(t.FirstSeen)},
				{"last seen", a.stamp(t.LastSeen)},
				{"offences", strconv.Itoa(t.Offences)},
				{"guesses", strconv.Itoa(t.Guesses)},
				{"redirects", fmt.Sprintf("%d, of which %d live", t.Redirects, t.Live)},
				{"sessions", strconv.Itoa(t.Sessions)},
				{"hosts", joined(t.Hosts)},
			}
		},
	}
}
