package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/cli/safe"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

type redirectsAddCmd struct {
	client

	Source   string          `arg:"" help:"IPv4 address, IPv6 address (its /64), or a prefix of 32, 64 or 128 bits."`
	Service  string          `required:"" help:"Service to redirect, such as ssh." placeholder:"S"`
	Host     string          `xor:"host" required:"" help:"Host to redirect from." placeholder:"H"`
	AllHosts bool            `xor:"host" required:"" help:"Redirect from every host."`
	TTL      config.Duration `name:"ttl" default:"24h" help:"How long." placeholder:"D"`
	Egress   string          `enum:"none,sinkhole,record," default:"" help:"What its pot reaches when it calls out: none, sinkhole or record; the node permits no more than its honeypot.egress.most, and without this its honeypot.egress.default holds." placeholder:"P"`
}

func (c *redirectsAddCmd) Run(ctx context.Context, a *app) error {
	source, err := api.Source(c.Source)
	if err != nil {
		return err
	}
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	added, err := server.AddRedirects(ctx, api.AddRedirect{
		Source: source, Service: event.Service(c.Service), Host: c.Host, AllHosts: c.AllHosts, TTL: c.TTL.Std(), Egress: event.EgressPolicy(c.Egress),
	})
	if err != nil {
		return err
	}
	return a.redirects(c.client, added, "There is no host to redirect from.")
}

type redirectsRmCmd struct {
	client

	Target string `arg:"" name:"id|source" help:"A redirect's id, or a source: an address or network."`
}

func (c *redirectsRmCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	released, err := server.Release(ctx, c.Target)
	if err != nil {
		return err
	}
	return a.redirects(c.client, released, "Nothing was released.")
}

// redirects prints those that a command changed.
func (a *app) redirects(c client, list []event.Redirect, none string) error {
	if a.wantsJSON(c.output) {
		if list == nil {
			list = []event.Redirect{}
		}
		return a.json(list)
	}
	v := redirectView()
	rows := make([][]cell, len(list))
	for i, r := range list {
		rows[i] = v.row(a, r)
	}
	return a.table(v.headers, rows, none)
}

type pauseCmd struct{ client }

func (c *pauseCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	released, err := server.Pause(ctx)
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.redirects(c.client, released, "")
	}
	return a.printf("Paused: %s released. Nobody is redirected until: kokkuri resume\n", plural(len(released), "redirect"))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

type resumeCmd struct{ client }

func (c *resumeCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	if err := server.Resume(ctx); err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(map[string]bool{"paused": false})
	}
	return a.printf("Resumed: offenders are redirected again from now on.\n")
}

type allowCmd struct {
	Add allowAddCmd `cmd:"" help:"Never redirect a network; what is redirected of it is released."`
	Rm  allowRmCmd  `cmd:"" help:"Take a network off the list."`
	Ls  allowLsCmd  `cmd:"" help:"List the networks that are never redirected."`
}

type allowAddCmd struct {
	client

	Prefix string `arg:"" name:"cidr" help:"Network or address."`
	Note   string `help:"What the network is." placeholder:"TEXT"`
}

func (c *allowAddCmd) Run(ctx context.Context, a *app) error {
	p, err := config.ParsePrefix(c.Prefix)
	if err != nil {
		return &usageError{text: fmt.Sprintf("CIDR: found %q", c.Prefix), hint: "allowed: " + err.Error()}
	}
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	released, err := server.AllowAdd(ctx, p, c.Note)
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.redirects(c.client, released, "")
	}
	return a.printf("%s is never redirected from now on; %s released.\n", p, plural(len(released), "redirect"))
}

type allowRmCmd struct {
	client

	Prefix string `arg:"" name:"cidr" help:"Network or address."`
}

func (c *allowRmCmd) Run(ctx context.Context, a *app) error {
	p, err := config.ParsePrefix(c.Prefix)
	if err != nil {
		return &usageError{text: fmt.Sprintf("CIDR: found %q", c.Prefix), hint: "allowed: " + err.Error()}
	}
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	if err := server.AllowRemove(ctx, p); err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(map[string]string{"removed": p.String()})
	}
	return a.printf("%s is off the allow-list.\n", p)
}

type allowLsCmd struct{ client }

func (c *allowLsCmd) Run(ctx context.Context, a *app) error {
	return view[api.AllowEntry]{
		path:    api.PathAllow,
		headers: []string{"NETWORK", "SINCE", "NOTE"},
		empty:   "The allow-list is empty: kokkuri allow add CIDR",
		row: func(a *app, e api.AllowEntry) []cell {
			note := plain(e.Note)
			if e.Fixed {
				note = cell{"from the configuration", dim}
			}
			return []cell{plain(e.Prefix.String()), plain(a.ago(e.CreatedAt)), note}
		},
	}.list(ctx, a, c.client, api.Filter{})
}

type enrollCmd struct {
	client

	Name string          `arg:"" help:"Name of the host (or node): lower-case letters, digits and hyphens."`
	Node bool            `help:"The token is for a honeypot node."`
	TTL  config.Duration `name:"ttl" default:"1h" help:"How long the token holds." placeholder:"D"`
}

func (c *enrollCmd) Run(ctx context.Context, a *app) error {
	if !config.ValidName(c.Name) {
		return &usageError{text: fmt.Sprintf("name: found %q", c.Name), hint: "allowed: a lower-case name of letters, digits and hyphens, at most 63 long"}
	}
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	role := api.RoleHost
	if c.Node {
		role = api.RoleNode
	}
	e, err := server.Enroll(ctx, role, c.Name, c.TTL.Std())
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(e)
	}
	// The token alone on the standard output, so that it can be piped.
	if err := a.printf("%s\n", e.Token); err != nil {
		return err
	}
	use := "kokkuri-agent enroll --server SERVER --token TOKEN"
	if c.Node {
		use = "KOKKURI_HONEYPOT_TOKEN=TOKEN kokkuri honeypot --server SERVER"
	}
	a.warnf("A token for the %s %s, good once, for %s. On that machine: %s", role, c.Name, span(time.Until(e.ExpiresAt).Round(time.Minute)), use)
	return nil
}

type removeCmd struct {
	client

	Name string `arg:"" help:"Its name."`
}

func (c *removeCmd) remove(ctx context.Context, a *app, path string) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	if err := server.Remove(ctx, path, c.Name); err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(map[string]string{"removed": c.Name})
	}
	return a.printf("%s is removed: its certificates are revoked and its redirects are released.\n", safe.Text(c.Name))
}
