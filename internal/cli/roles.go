package cli

import (
	"context"

	"github.com/kokkuri/kokkuri/internal/config"
)

type upCmd struct {
	Settings config.Up `embed:""`
}

// Help is shown by --help.
func (upCmd) Help() string {
	return "Server, honeypot and agent in one process, connected to each other. For a trial only: it puts attackers' " +
		"containers on the machine that it protects."
}

func (c *upCmd) Run(ctx context.Context, a *app) error {
	l, log, err := a.start(&c.Settings)
	if err != nil {
		return err
	}
	if a.roles.Up == nil {
		return missing("up")
	}
	log.WarnContext(ctx, "all roles on one machine: for a trial only, since attackers' containers run on the machine that is protected")
	return a.roles.Up(ctx, l.Up, log)
}

type serverCmd struct {
	Settings config.Server `embed:""`
}

func (c *serverCmd) Run(ctx context.Context, a *app) error {
	l, log, err := a.start(&c.Settings)
	if err != nil {
		return err
	}
	if a.roles.Server == nil {
		return missing("server")
	}
	return a.roles.Server(ctx, l.ServerConfig(), log)
}

type honeypotCmd struct {
	Settings config.Honeypot `embed:""`
}

func (c *honeypotCmd) Run(ctx context.Context, a *app) error {
	l, log, err := a.start(&c.Settings)
	if err != nil {
		return err
	}
	if a.roles.Honeypot == nil {
		return missing("honeypot")
	}
	return a.roles.Honeypot(ctx, l.HoneypotConfig(), log)
}

// agentCmd is `kokkuri agent` and `kokkuri-agent run`.
type agentCmd struct {
	Settings config.Agent `embed:""`
}

func (c *agentCmd) Run(ctx context.Context, a *app) error {
	l, log, err := a.start(&c.Settings)
	if err != nil {
		return err
	}
	if a.roles.Agent == nil {
		return missing("agent")
	}
	return a.roles.Agent(ctx, l.AgentConfig(), log)
}

type versionCmd struct{ output }

func (c *versionCmd) Run(a *app) error {
	if a.wantsJSON(c.output) {
		return a.json(map[string]string{"version": a.env.Version})
	}
	return a.printf("%s\n", a.env.Version)
}

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Check a configuration file and the environment."`
	Show  configShowCmd  `cmd:"" help:"Print every key with its value, and where the value is from."`
}

type configCheckCmd struct {
	File string `arg:"" optional:"" help:"Configuration file; the default one where none is given."`
}

func (c *configCheckCmd) Run(a *app) error {
	if c.File != "" {
		a.configFile = c.File
	}
	l, err := a.load(&struct{}{})
	if err != nil {
		return err
	}
	for _, w := range l.Warnings {
		a.warnf("%s", w)
	}
	if l.Path == "" {
		return a.printf("no file (%s): all defaults are in force\n", a.usual)
	}
	return a.printf("%s: ok\n", l.Path)
}

type configShowCmd struct {
	output
	File string `arg:"" optional:"" help:"Configuration file; the default one where none is given."`
}

func (c *configShowCmd) Run(a *app) error {
	if c.File != "" {
		a.configFile = c.File
	}
	l, err := a.load(&struct{}{})
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(l.Values())
	}
	return l.Show(a.env.Stdout)
}
