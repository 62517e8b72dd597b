package cli

import (
	"context"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/config"
)

// grammar are the commands of kokkuri.
type grammar struct {
	configFlag

	Up       upCmd       `cmd:"" group:"Roles" help:"Run all roles on this machine, for a trial."`
	Server   serverCmd   `cmd:"" group:"Roles" help:"Run the server: take logs, detect, decide."`
	Honeypot honeypotCmd `cmd:"" group:"Roles" help:"Run a honeypot node: take attackers in."`
	Agent    agentCmd    `cmd:"" group:"Roles" help:"Run the agent of a protected host (kokkuri-agent is the small binary for it)."`

	Status    statusCmd    `cmd:"" group:"Look" help:"What the server is doing."`
	Redirects redirectsCmd `cmd:"" group:"Look" help:"Who is redirected where."`
	Offences  offencesCmd  `cmd:"" group:"Look" help:"Rules that fired, with their proof."`
	Attackers attackersCmd `cmd:"" group:"Look" help:"Everyone who offended."`
	Sessions  sessionsCmd  `cmd:"" group:"Look" help:"Connections to honeypots."`
	Pots      potsCmd      `cmd:"" group:"Look" help:"The containers that belong to attackers."`
	Hosts     hostsCmd     `cmd:"" group:"Look" help:"The protected hosts."`
	Nodes     nodesCmd     `cmd:"" group:"Look" help:"The honeypot nodes."`
	Events    eventsCmd    `cmd:"" group:"Look" help:"What is read from the logs, and what attackers leave."`
	Explain   explainCmd   `cmd:"" group:"Look" help:"Parse and detect over old logs, offline, changing nothing."`

	Pause  pauseCmd  `cmd:"" group:"Control" help:"Release everything and redirect nothing until resumed."`
	Resume resumeCmd `cmd:"" group:"Control" help:"Redirect again."`
	Allow  allowCmd  `cmd:"" group:"Control" help:"Networks that are never redirected."`
	Enroll enrollCmd `cmd:"" group:"Control" help:"Make a one-time token for a host or a node."`

	Doctor        doctorCmd        `cmd:"" group:"Set up" help:"What is missing or misconfigured here, each with its mend."`
	Config        configCmd        `cmd:"" group:"Set up" help:"The configuration."`
	Rules         rulesCmd         `cmd:"" group:"Set up" help:"The rules."`
	Images        imagesCmd        `cmd:"" group:"Set up" help:"What pots are made of, on this machine."`
	Personas      personasCmd      `cmd:"" group:"Set up" help:"What pots pretend to be."`
	RsyslogConfig rsyslogConfigCmd `cmd:"" group:"Set up" help:"Print what makes a host's rsyslog send its log-ins here."`
	Lab           labCmd           `cmd:"" group:"Set up" help:"A whole network on this machine, to try Kokkuri on."`
	Version       versionCmd       `cmd:"" group:"Set up" help:"Print the version."`
}

// Kokkuri runs the operator's binary and returns its exit code.
func Kokkuri(ctx context.Context, env Env, roles Roles) int {
	return run(ctx, "kokkuri", "Kokkuri deflects attackers into honeypots of their own.", &grammar{},
		&app{env: env, roles: roles, usual: config.DefaultFile})
}

type idArg struct {
	client

	ID string `arg:"" help:"Its id."`
}

type nameArg struct {
	client

	Name string `arg:"" help:"Its name."`
}

type (
	redirectsCmd struct {
		Ls   redirectsLsCmd   `cmd:"" default:"withargs" help:"List redirects, newest first."`
		Show redirectsShowCmd `cmd:"" help:"Show one."`
		Add  redirectsAddCmd  `cmd:"" help:"Redirect a source by hand."`
		Rm   redirectsRmCmd   `cmd:"" help:"Release one redirect, or all of a source."`
	}
	redirectsLsCmd struct {
		listFlags

		Live bool `help:"Only those that have not ended."`
	}
	redirectsShowCmd struct{ idArg }
)

func (c *redirectsLsCmd) Run(ctx context.Context, a *app) error {
	f, err := c.filter(a.wantsJSON(c.output))
	if err != nil {
		return err
	}
	f.Live = c.Live
	return redirectView().list(ctx, a, c.client, f)
}

func (c *redirectsShowCmd) Run(ctx context.Context, a *app) error {
	return redirectView().show(ctx, a, c.client, c.ID)
}

type (
	offencesCmd struct {
		Ls   offencesLsCmd   `cmd:"" default:"withargs" help:"List offences, newest first."`
		Show offencesShowCmd `cmd:"" help:"Show one, with the lines that prove it."`
	}
	offencesLsCmd   struct{ listFlags }
	offencesShowCmd struct{ idArg }
)

func (c *offencesLsCmd) Run(ctx context.Context, a *app) error {
	return listed(ctx, a, c.listFlags, offenceView())
}

func (c *offencesShowCmd) Run(ctx context.Context, a *app) error {
	return offenceView().show(ctx, a, c.client, c.ID)
}

// listed lists records with the flags that most lists have.
func listed[T any](ctx context.Context, a *app, flags listFlags, v view[T]) error {
	f, err := flags.filter(a.wantsJSON(flags.output))
	if err != nil {
		return err
	}
	return v.list(ctx, a, flags.client, f)
}

type (
	attackersCmd struct {
		Ls   attackersLsCmd   `cmd:"" default:"withargs" help:"List attackers, last seen first."`
		Show attackersShowCmd `cmd:"" help:"Show one."`
	}
	attackersLsCmd   struct{ listFlags }
	attackersShowCmd struct {
		client

		Source string `arg:"" help:"Its address or prefix."`
	}
)

func (c *attackersLsCmd) Run(ctx context.Context, a *app) error {
	return listed(ctx, a, c.listFlags, attackerView())
}

func (c *attackersShowCmd) Run(ctx context.Context, a *app) error {
	return attackerView().show(ctx, a, c.client, c.Source)
}

type (
	potsCmd struct {
		Ls   potsLsCmd   `cmd:"" default:"withargs" help:"List pots, newest first."`
		Show potsShowCmd `cmd:"" help:"Show one, also one that is gone, with its sessions."`
	}
	potsLsCmd   struct{ listFlags }
	potsShowCmd struct{ idArg }
)

func (c *potsLsCmd) Run(ctx context.Context, a *app) error {
	return listed(ctx, a, c.listFlags, potView())
}

type (
	hostsCmd struct {
		Ls   hostsLsCmd   `cmd:"" default:"withargs" help:"List hosts."`
		Show hostsShowCmd `cmd:"" help:"Show one, with what its agent finds."`
		Rm   hostsRmCmd   `cmd:"" help:"Revoke a host's certificates, release its redirects and forget it."`
	}
	hostsLsCmd   struct{ client }
	hostsShowCmd struct{ nameArg }
	hostsRmCmd   struct{ removeCmd }
)

func (c *hostsLsCmd) Run(ctx context.Context, a *app) error {
	return hostView().list(ctx, a, c.client, api.Filter{})
}

func (c *hostsShowCmd) Run(ctx context.Context, a *app) error {
	return hostView().show(ctx, a, c.client, c.Name)
}

func (c *hostsRmCmd) Run(ctx context.Context, a *app) error { return c.remove(ctx, a, api.PathHosts) }

type (
	nodesCmd struct {
		Ls   nodesLsCmd   `cmd:"" default:"withargs" help:"List nodes."`
		Show nodesShowCmd `cmd:"" help:"Show one, with what it finds."`
		Rm   nodesRmCmd   `cmd:"" help:"Revoke a node's certificates, release its redirects and forget it."`
	}
	nodesLsCmd   struct{ client }
	nodesShowCmd struct{ nameArg }
	nodesRmCmd   struct{ removeCmd }
)

func (c *nodesLsCmd) Run(ctx context.Context, a *app) error {
	return nodeView().list(ctx, a, c.client, api.Filter{})
}

func (c *nodesShowCmd) Run(ctx context.Context, a *app) error {
	return nodeView().show(ctx, a, c.client, c.Name)
}

func (c *nodesRmCmd) Run(ctx context.Context, a *app) error { return c.remove(ctx, a, api.PathNodes) }
