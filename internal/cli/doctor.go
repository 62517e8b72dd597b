package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/cli/doctor"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

type doctorCmd struct {
	output

	Role []string `enum:"server,honeypot,agent,all" default:"all" help:"Roles of this machine: ${enum}." placeholder:"ROLE,..."`
}

func (c *doctorCmd) Run(ctx context.Context, a *app) error {
	var roles []config.Role
	for _, r := range c.Role {
		if r == "all" {
			roles = []config.Role{config.RoleServer, config.RoleHoneypot, config.RoleAgent}
			break
		}
		roles = append(roles, config.Role(r))
	}
	return a.doctor(ctx, c.output, roles)
}

type agentDoctorCmd struct{ output }

func (c *agentDoctorCmd) Run(ctx context.Context, a *app) error {
	return a.doctor(ctx, c.output, []config.Role{config.RoleAgent})
}

// doctor looks at the machine and prints what it found. A configuration that is wrong is a finding too.
func (a *app) doctor(ctx context.Context, o output, roles []config.Role) error {
	l, err := a.load(&struct{}{})
	var list []event.Finding
	switch {
	case err != nil:
		for _, e := range lines(err) {
			list = append(list, event.Finding{Level: doctor.Error, Subject: "configuration", Text: e, Mend: "change the file, then: kokkuri config check"})
		}
		if l, err = config.Load(config.Options{}); err != nil { // the rest is looked at with the defaults
			return fmt.Errorf("defaults: %w", err)
		}
	case l.Path == "":
		list = append(list, event.Finding{Level: doctor.OK, Subject: "configuration", Text: "no " + a.usual + ": all defaults are in force"})
	default:
		list = append(list, fileFinding(l.Path))
	}
	list = append(list, a.agentFindings(ctx, roles, l.AgentConfig())...)
	list = append(list, doctor.Look(ctx, doctor.Options{Config: l.Up, Roles: roles, Rules: a.roles.Checks.Rules, Watch: a.roles.Checks.Watch})...)
	if slices.Contains(roles, config.RoleServer) {
		list = append(list, a.serverFindings(ctx, l.Socket)...)
	}
	list = sorted(list)
	if a.wantsJSON(o) {
		if err := a.json(map[string]any{"ok": !doctor.Failed(list), "findings": list}); err != nil {
			return err
		}
	} else if err := a.findings(list); err != nil {
		return err
	}
	if doctor.Failed(list) {
		return errFailed
	}
	return nil
}

// serverFindings are what the server says that runs here: of hosts and nodes, and of the log lines that came. None runs where
// its socket is not there or does not answer; that is no fault, since doctor is asked before a start too.
func (a *app) serverFindings(ctx context.Context, socket string) []event.Finding {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := api.NewClient(socket).Status(ctx)
	if err != nil {
		return []event.Finding{{Level: doctor.OK, Subject: "server", Text: "none answers on " + socket + ": what it hears of hosts and logs is not looked at"}}
	}
	list := []event.Finding{{Level: doctor.OK, Subject: "server", Text: "it answers on " + socket}}
	return append(list, s.Findings...)
}

// agentFindings are what this host's agent has to say, where one is or would be.
func (a *app) agentFindings(ctx context.Context, roles []config.Role, c config.Agent) []event.Finding {
	if a.roles.AgentStatus == nil || !slices.Contains(roles, config.RoleAgent) {
		return nil
	}
	s, err := a.roles.AgentStatus(ctx, c)
	if err != nil {
		return []event.Finding{{Level: doctor.Warning, Subject: "agent", Text: err.Error()}}
	}
	return s.Findings
}

// lines are the single errors of a configuration.
func lines(err error) []string {
	if all, ok := errors.AsType[config.Errors](err); ok {
		out := make([]string, len(all))
		for i, e := range all {
			out[i] = e.Error()
		}
		return out
	}
	return []string{err.Error()}
}

// fileFinding says whether a configuration file is as private as what may be in it.
func fileFinding(path string) event.Finding {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err != nil:
		return event.Finding{Level: doctor.Warning, Subject: "configuration", Text: err.Error()}
	case info.Mode().Perm()&0o022 != 0:
		return event.Finding{
			Level: doctor.Error, Subject: "configuration", Text: fmt.Sprintf("%s can be written by others (mode %04o)", path, info.Mode().Perm()),
			Mend: "chmod go-w " + path,
		}
	}
	return event.Finding{Level: doctor.OK, Subject: "configuration", Text: path + " is valid"}
}
