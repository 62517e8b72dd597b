package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/cli/safe"
	"github.com/kokkuri/kokkuri/internal/event"
)

func hostView() view[api.Host] {
	return view[api.Host]{
		path:    api.PathHosts,
		headers: []string{"NAME", "AGENT", "LAST SEEN", "ADDRESSES", "SERVICES", "ROADS", "REDIRECTS", "FINDINGS"},
		empty:   "No host is known: kokkuri enroll HOST makes a token for one.",
		row: func(a *app, h api.Host) []cell {
			agent := connection(h.Connected, h.LastSeen.IsZero())
			if !h.Enrolled {
				agent = cell{"none", dim}
			}
			return []cell{
				plain(h.Name), agent, plain(a.ago(h.LastSeen)), plain(joined(h.Addresses)), plain(ports(h.Services)), plain(joined(h.Roads)),
				plain(strconv.Itoa(h.Redirects)), findingsCell(h.Findings),
			}
		},
		fields: func(a *app, h api.Host) []field {
			return []field{
				{"name", h.Name},
				{"aliases", joined(h.Aliases)},
				{"enrolled", strings.TrimSpace(yes(h.Enrolled) + " " + a.stamp(h.EnrolledAt))},
				{"connected", yes(h.Connected)},
				{"last seen", a.stamp(h.LastSeen)},
				{"version", h.Version},
				{"addresses", joined(h.Addresses)},
				{"services", ports(h.Services)},
				{"roads", joined(h.Roads)},
				{"redirects", strconv.Itoa(h.Redirects)},
				{"left out of logs", leftOut(h.LeftOut)},
			}
		},
		more: func(a *app, h api.Host) error { return a.findings(h.Findings) },
	}
}

func nodeView() view[api.Node] {
	return view[api.Node]{
		path:    api.PathNodes,
		headers: []string{"NAME", "STATE", "LAST SEEN", "ADDRESSES", "SERVICES", "LEASES", "POTS", "FINDINGS"},
		empty:   "No honeypot node is known: kokkuri enroll --node NAME makes a token for one.",
		row: func(a *app, n api.Node) []cell {
			return []cell{
				plain(n.Name), connection(n.Connected, n.LastSeen.IsZero()), plain(a.ago(n.LastSeen)), plain(joined(n.Addresses)), plain(joined(n.Services)),
				plain(strconv.Itoa(n.Leases)), plain(strconv.Itoa(n.Pots)), findingsCell(n.Findings),
			}
		},
		fields: func(a *app, n api.Node) []field {
			return []field{
				{"name", n.Name},
				{"enrolled", a.stamp(n.EnrolledAt)},
				{"connected", yes(n.Connected)},
				{"last seen", a.stamp(n.LastSeen)},
				{"version", n.Version},
				{"addresses", joined(n.Addresses)},
				{"services", joined(n.Services)},
				{"leases", strconv.Itoa(n.Leases)},
				{"pots", strconv.Itoa(n.Pots)},
			}
		},
		more: func(a *app, n api.Node) error { return a.findings(n.Findings) },
	}
}

// leftOut says how much of a host's logs its agent left out.
func leftOut(counts map[string]int64) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, strings.ReplaceAll(safe.Text(name), "_", " ")+": "+strconv.FormatInt(counts[name], 10))
	}
	return strings.Join(out, ", ")
}

func connection(connected, never bool) cell {
	switch {
	case connected:
		return cell{"connected", green}
	case never:
		return cell{"never seen", yellow}
	}
	return cell{"gone", red}
}

func ports(list []event.HostPort) string {
	parts := make([]string, len(list))
	for i, s := range list {
		parts[i] = fmt.Sprintf("%s:%d", s.Service, s.Port)
	}
	return strings.Join(parts, ", ")
}

// Levels of findings.
const (
	levelOK      = "ok"
	levelWarning = "warning"
	levelError   = "error"
)

func findingsCell(list []event.Finding) cell {
	warnings, errs := count(list)
	switch {
	case errs > 0:
		return cell{plural(errs, "error"), red}
	case warnings > 0:
		return cell{plural(warnings, "warning"), yellow}
	}
	return cell{"none", dim}
}

func count(list []event.Finding) (warnings, errs int) {
	for _, f := range list {
		switch f.Level {
		case levelWarning:
			warnings++
		case levelError:
			errs++
		}
	}
	return warnings, errs
}

// findings prints each finding with its mend.
func (a *app) findings(list []event.Finding) error {
	for _, f := range list {
		s := green
		switch f.Level {
		case levelWarning:
			s = yellow
		case levelError:
			s = red
		}
		if err := a.finding(f, s); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) finding(f event.Finding, s style) error {
	text := paint(a.env.Colour, s, fmt.Sprintf("%-7s", safe.Text(f.Level))) + "  " + safe.Text(f.Subject) + ": " + safe.Text(f.Text) + "\n"
	if f.Mend != "" {
		text += "         " + paint(a.env.Colour, bold, "mend:") + " " + safe.Text(f.Mend) + "\n"
	}
	return a.printf("%s", text)
}
