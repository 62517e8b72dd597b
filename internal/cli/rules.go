package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/cli/safe"
	"github.com/kokkuri/kokkuri/internal/event"
)

type rulesCmd struct {
	Ls      rulesLsCmd      `cmd:"" default:"withargs" help:"List the rules and what holds of each."`
	Show    rulesShowCmd    `cmd:"" help:"Show one."`
	Enable  rulesEnableCmd  `cmd:"" help:"Turn a rule on as its file says; with --redirect have it redirect."`
	Disable rulesDisableCmd `cmd:"" help:"Turn a rule off, and release what it redirects."`
	Preview rulesPreviewCmd `cmd:"" help:"Show what a rule would have redirected over the log lines that the server still has."`
	Reload  rulesReloadCmd  `cmd:"" help:"Have the server read its rules again; bad ones change nothing."`
	Test    rulesTestCmd    `cmd:"" help:"Validate a rules file and run the examples in it."`
}

type rulesTestCmd struct {
	File string `arg:"" help:"Rules file, or a folder of them."`
}

func (c *rulesTestCmd) Run(ctx context.Context, a *app) error {
	if a.roles.TestRules == nil {
		return missing("rules test")
	}
	return a.roles.TestRules(ctx, c.File, a.env.Stdout)
}

type (
	rulesLsCmd   struct{ client }
	rulesShowCmd struct{ nameArg }
)

func (c *rulesLsCmd) Run(ctx context.Context, a *app) error {
	return ruleView().list(ctx, a, c.client, api.Filter{})
}

func (c *rulesShowCmd) Run(ctx context.Context, a *app) error {
	return ruleView().show(ctx, a, c.client, c.Name)
}

func ruleView() view[api.Rule] {
	return view[api.Rule]{
		path:    api.PathRules,
		headers: []string{"RULE", "SERVICE", "COUNT", "WITHIN", "BY", "ACTION", "SEVERITY", "LIVE"},
		empty:   "There are no rules.",
		row: func(_ *app, r api.Rule) []cell {
			return []cell{
				plain(r.Name), plain(servicesOf(r)), plain(counted(r)), plain(r.Within), plain(strings.Join(r.GroupBy, ", ")), actionOf(r),
				plain(string(r.Severity)), plain(strconv.Itoa(r.Redirects)),
			}
		},
		fields: func(a *app, r api.Rule) []field {
			said := ""
			if r.Overridden {
				said = "changed by an operator " + a.ago(r.ChangedAt) + "; the file says " + string(r.FileAction)
			}
			return []field{
				{"name", r.Name},
				{"about", r.About},
				{"file", fmt.Sprintf("%s:%d", r.File, r.Line)},
				{"service", servicesOf(r)},
				{"kinds", joined(r.Kinds)},
				{"if", r.If},
				{"source in", r.SourceIn},
				{"group by", joined(r.GroupBy)},
				{"count", counted(r)},
				{"then", string(r.Then)},
				{"within", r.Within},
				{"severity", string(r.Severity)},
				{"action", actionOf(r).text},
				{"", said},
				{"for", joined(r.For)},
				{"scope", string(r.Scope)},
				{"live redirects", strconv.Itoa(r.Redirects)},
			}
		},
	}
}

func servicesOf(r api.Rule) string {
	if len(r.Services) == 0 {
		return "any"
	}
	return joined(r.Services)
}

func counted(r api.Rule) string {
	if r.Distinct == "" {
		return strconv.Itoa(r.Count)
	}
	return plural(r.Count, "different "+r.Distinct)
}

func actionOf(r api.Rule) cell {
	switch {
	case r.Disabled:
		return cell{"disabled", dim}
	case r.Action == event.ActionRedirect:
		return cell{"redirect", green}
	}
	return plain(string(r.Action))
}

type rulesEnableCmd struct {
	nameArg

	Redirect bool `help:"Have it redirect. What it would have done in the recorded past is shown first."`
	Yes      bool `short:"y" help:"Do not ask."`
}

func (c *rulesEnableCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	if c.Redirect {
		if err := a.consider(ctx, server, c.Name, c.Yes, a.wantsJSON(c.output)); err != nil {
			return err
		}
	}
	return a.setRule(ctx, server, c.nameArg, api.SetRule{Redirect: c.Redirect})
}

// consider shows what a rule would have done, and asks whether it shall.
func (a *app) consider(ctx context.Context, server *api.Client, name string, yes, json bool) error {
	p, err := server.PreviewRule(ctx, name)
	if err != nil {
		return err
	}
	if !json {
		if err := a.preview(p); err != nil {
			return err
		}
	}
	if yes {
		return nil
	}
	in, ok := a.env.Stdin.(*os.File)
	if json || !ok || !term.IsTerminal(int(in.Fd())) {
		return &usageError{text: "nothing was changed: redirecting is turned on only when somebody says yes", hint: "run it on a terminal, or with --yes"}
	}
	if err := a.printf("Have %s redirect from now on? [y/N] ", name); err != nil {
		return err
	}
	answer, err := bufio.NewReader(in).ReadString('\n')
	if said := strings.ToLower(strings.TrimSpace(answer)); err != nil || said != "y" && said != "yes" {
		a.warnf("nothing was changed")
		return errFailed
	}
	return nil
}

type rulesDisableCmd struct {
	nameArg

	Redirect bool `help:"Only the redirecting: the rule does again what its file says."`
}

func (c *rulesDisableCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	return a.setRule(ctx, server, c.nameArg, api.SetRule{Disabled: !c.Redirect})
}

func (a *app) setRule(ctx context.Context, server *api.Client, c nameArg, s api.SetRule) error {
	out, err := server.SetRule(ctx, c.Name, s)
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(out)
	}
	does := actionOf(out.Rule).text
	switch {
	case out.Rule.Disabled:
		does = "is disabled"
	case out.Rule.Action == event.ActionRedirect:
		does = "redirects"
	case out.Rule.Action == event.ActionAlert:
		does = "alerts"
	}
	if err := a.printf("%s %s from now on; %s released.\n", safe.Text(out.Rule.Name), does, plural(len(out.Released), "redirect")); err != nil {
		return err
	}
	return nil
}

type rulesPreviewCmd struct{ nameArg }

func (c *rulesPreviewCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	p, err := server.PreviewRule(ctx, c.Name)
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(p)
	}
	return a.preview(p)
}

// shownOffences is how many offences of a preview people see.
const shownOffences = 20

// preview tells what a rule would have done.
func (a *app) preview(p api.RulePreview) error {
	if p.Events == 0 {
		return a.printf("The server has no log lines with events, so nothing can be said of the past.\n")
	}
	if err := a.printf("From %s to %s, in %s: %s, of which %d would have been redirected and %d not.\n",
		a.stamp(p.From), a.stamp(p.To), plural(p.Lines, "line"), plural(p.Total, "offence"), p.Redirect, p.Spared); err != nil {
		return err
	}
	var rows [][]cell
	for _, o := range p.Offences[:min(len(p.Offences), shownOffences)] {
		host, against := o.Host, cell{"redirected", green}
		if host == "" {
			host = "all"
		}
		if o.Against != "" {
			against = cell{o.Against, dim}
		}
		rows = append(rows, []cell{plain(address(o.Source)), plain(host), plain(string(o.Service)), plain(strconv.Itoa(o.Count)), plain(a.stamp(o.Last)), against})
	}
	if err := a.table([]string{"SOURCE", "HOST", "SERVICE", "COUNT", "WHEN", "OUTCOME"}, rows, "Nobody would have been redirected."); err != nil {
		return err
	}
	if p.Total > len(rows) {
		a.warnf("there are %d more", p.Total-len(rows))
	}
	return nil
}

type rulesReloadCmd struct{ client }

func (c *rulesReloadCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	out, err := server.ReloadRules(ctx)
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(out)
	}
	return a.printf("%s in force.\n", plural(out.Rules, "rule"))
}
