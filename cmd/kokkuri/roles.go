package main

import (
	"context"
	"log/slog"

	"github.com/kokkuri/kokkuri/cmd/internal/process"
	"github.com/kokkuri/kokkuri/internal/agent"
	"github.com/kokkuri/kokkuri/internal/cli"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/server"
	"github.com/kokkuri/kokkuri/internal/up"
)

// roles are the parts of Kokkuri that are in this binary.
func roles(version string) cli.Roles {
	return cli.Roles{
		Server: func(ctx context.Context, c config.Server, log *slog.Logger) error {
			return server.Run(ctx, server.Options{Config: c, Version: version, Log: log, Reload: process.Hangups(ctx)})
		},
		Honeypot: func(ctx context.Context, c config.Honeypot, log *slog.Logger) error {
			return honeypot.Run(ctx, honeypot.RunOptions{Config: c, Version: version, Log: log})
		},
		Up: func(ctx context.Context, c config.Up, log *slog.Logger) error {
			return up.Run(ctx, up.Options{Config: c, Version: version, Log: log, Reload: process.Hangups(ctx)})
		},
		Agent: func(ctx context.Context, c config.Agent, log *slog.Logger) error {
			return agent.Run(ctx, agent.Options{Config: c, Version: version, Log: log})
		},
		Enroll:      agent.Enroll,
		AgentStatus: agentStatus,
		ReleaseAll:  agent.ReleaseAll,
		Explain:     explain,
		WriteLog:    writeLog,
		TestRules:   testRules,
		Lab:         labCommands(),
		Images:      images(),
		Checks:      cli.Checks{Rules: checkRules, Watch: honeypot.ProbeWatch},
	}
}

func agentStatus(ctx context.Context, c config.Agent) (cli.AgentStatus, error) {
	s, err := agent.Status(ctx, c)
	return cli.AgentStatus(s), err
}
