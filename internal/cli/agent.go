package cli

import (
	"context"
	"strconv"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// agentGrammar are the commands of kokkuri-agent.
type agentGrammar struct {
	configFlag

	Run     agentCmd        `cmd:"" help:"Run the agent."`
	Enroll  agentEnrollCmd  `cmd:"" help:"Enrol this host with a one-time token (on the server: kokkuri enroll HOST)."`
	Status  agentStatusCmd  `cmd:"" help:"What the agent is doing."`
	Doctor  agentDoctorCmd  `cmd:"" help:"What is missing or misconfigured here, each with its mend."`
	Release agentReleaseCmd `cmd:"" help:"Take redirects out of this host's kernel; works when the server is dead."`
	Config  configCmd       `cmd:"" help:"The configuration."`
	Version versionCmd      `cmd:"" help:"Print the version."`
}

// Agent runs the binary of protected hosts and returns its exit code.
func Agent(ctx context.Context, env Env, roles Roles) int {
	return run(ctx, "kokkuri-agent", "The agent of a host that Kokkuri protects.", &agentGrammar{},
		&app{env: env, roles: roles, usual: config.DefaultAgentFile})
}

type agentEnrollCmd struct {
	Settings config.Agent `embed:""`
}

func (c *agentEnrollCmd) Run(ctx context.Context, a *app) error {
	l, _, err := a.start(&c.Settings)
	if err != nil {
		return err
	}
	token := l.Agent.Token.Reveal()
	if token == "" {
		return &usageError{text: "missing --token", hint: "make one on the server: kokkuri enroll HOST"}
	}
	if a.roles.Enroll == nil {
		return missing("enroll")
	}
	if err := a.roles.Enroll(ctx, l.AgentConfig(), token); err != nil {
		return err
	}
	return a.printf("Enrolled. Start the agent: kokkuri-agent run\n")
}

type agentStatusCmd struct{ output }

func (c *agentStatusCmd) Run(ctx context.Context, a *app) error {
	l, err := a.load(&struct{}{})
	if err != nil {
		return err
	}
	if a.roles.AgentStatus == nil {
		return missing("status")
	}
	s, err := a.roles.AgentStatus(ctx, l.AgentConfig())
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(s)
	}
	if err := a.fields([]field{
		{"host", s.Host},
		{"running", yes(s.Running)},
		{"connected", yes(s.Connected)},
		{"version", s.Version},
		{"redirects", strconv.Itoa(len(s.Redirects))},
	}); err != nil {
		return err
	}
	if len(s.Redirects) > 0 {
		if err := a.redirects(client{}, s.Redirects, ""); err != nil {
			return err
		}
	}
	return a.findings(s.Findings)
}

type agentReleaseCmd struct {
	All bool `required:"" help:"Release every redirect."`
}

func (c *agentReleaseCmd) Run(ctx context.Context, a *app) error {
	l, err := a.load(&struct{}{})
	if err != nil {
		return err
	}
	if a.roles.ReleaseAll == nil {
		return missing("release")
	}
	if err := a.roles.ReleaseAll(ctx, l.AgentConfig()); err != nil {
		return err
	}
	return a.printf("Released: nobody is redirected from this host.\n")
}

// sorted puts errors first, then warnings.
func sorted(list []event.Finding) []event.Finding {
	var out []event.Finding
	for _, level := range []string{levelError, levelWarning, levelOK} {
		for _, f := range list {
			if f.Level == level {
				out = append(out, f)
			}
		}
	}
	return out
}
