package main

import (
	"context"
	"log/slog"

	"github.com/kokkuri/kokkuri/internal/agent"
	"github.com/kokkuri/kokkuri/internal/cli"
	"github.com/kokkuri/kokkuri/internal/config"
)

// roles are the parts of Kokkuri that are in this binary.
func roles(version string) cli.Roles {
	return cli.Roles{
		Agent: func(ctx context.Context, c config.Agent, log *slog.Logger) error {
			return agent.Run(ctx, agent.Options{Config: c, Version: version, Log: log})
		},
		Enroll: agent.Enroll,
		AgentStatus: func(ctx context.Context, c config.Agent) (cli.AgentStatus, error) {
			s, err := agent.Status(ctx, c)
			return cli.AgentStatus(s), err
		},
		ReleaseAll: agent.ReleaseAll,
	}
}
