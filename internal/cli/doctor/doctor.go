// Package doctor looks at a machine before and while it plays a role, and says what is missing or misconfigured, each with its mend.
package doctor

import (
	"context"
	"fmt"
	"slices"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// Levels of findings.
const (
	OK      = "ok"
	Warning = "warning"
	Error   = "error"
)

// Options say what is looked at.
type Options struct {
	Config config.Up
	Roles  []config.Role // server, honeypot, agent
	// Root is the folder under which /proc, /sys, /lib and /var are found; empty: the real ones.
	Root string
	// Rules reads a rules file; nil: not looked at.
	Rules func(file string) error
	// Watch says how programs in pots would be seen; nil: not looked at.
	Watch func(how string) event.Finding
}

// check looks at one thing. No finding at all is never returned: what is well is said too.
type check func(ctx context.Context) []event.Finding

// Look runs every check of the roles.
func Look(ctx context.Context, o Options) []event.Finding {
	m := machine{root: o.Root}
	checks := []check{m.privileges(o), m.stateDir(o.Config.StateDir)}
	if slices.Contains(o.Roles, config.RoleServer) {
		checks = append(checks, m.serverPorts(o.Config), rules(o))
	}
	if slices.Contains(o.Roles, config.RoleAgent) || slices.Contains(o.Roles, config.RoleHoneypot) {
		checks = append(checks, m.nftables, m.modules(o.Roles))
	}
	if slices.Contains(o.Roles, config.RoleAgent) {
		checks = append(checks, m.logs(o.Config.Agent), m.forwardPolicy(o.Config.Agent))
	}
	if slices.Contains(o.Roles, config.RoleHoneypot) {
		checks = append(checks, m.namespaces, m.portRange(o.Config.Honeypot.PortRange), engine(o.Config.Honeypot.Engine), egress(o.Config.Honeypot.Egress))
	}
	if slices.Contains(o.Roles, config.RoleHoneypot) && o.Watch != nil {
		checks = append(checks, func(context.Context) []event.Finding { return []event.Finding{o.Watch(o.Config.Honeypot.Watch)} })
	}
	var out []event.Finding
	for _, c := range checks {
		out = append(out, c(ctx)...)
	}
	return out
}

// Failed reports whether any finding is an error.
func Failed(list []event.Finding) bool {
	return slices.ContainsFunc(list, func(f event.Finding) bool { return f.Level == Error })
}

func ok(subject, format string, args ...any) []event.Finding {
	return []event.Finding{{Level: OK, Subject: subject, Text: fmt.Sprintf(format, args...)}}
}

func warning(subject, text, mend string) []event.Finding {
	return []event.Finding{{Level: Warning, Subject: subject, Text: text, Mend: mend}}
}

func failed(subject, text, mend string) []event.Finding {
	return []event.Finding{{Level: Error, Subject: subject, Text: text, Mend: mend}}
}

// egress says what the pots of the node reach when they call out.
func egress(c config.Egress) check {
	return func(context.Context) []event.Finding {
		const subject = "egress"
		if c.Most == string(event.EgressRecord) {
			return warning(subject, fmt.Sprintf("RECORDING IS ON: what attackers in pots ask for by HTTP is fetched from the internet, in your name, where their rule says so (honeypot.egress.most is record; the default is %s)", c.Default),
				"set honeypot.egress.most: sinkhole unless you want that; docs/egress.md says what is fetched and what never is")
		}
		return ok(subject, "nothing that pots send leaves this machine; by default they meet %s, and %s at most", c.Default, c.Most)
	}
}

func rules(o Options) check {
	return func(context.Context) []event.Finding {
		file := o.Config.Server.Rules
		switch {
		case file == "":
			return ok("rules", "the built-in rules")
		case o.Rules == nil:
			return ok("rules", "%s (not read here)", file)
		}
		if err := o.Rules(file); err != nil {
			return failed("rules", err.Error(), "kokkuri rules test "+file)
		}
		return ok("rules", "%s is valid", file)
	}
}
