package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// line writes a JSON object on a line of its own.
func (a *app) line(v any) error {
	return writeLine(a.env.Stdout, v)
}

type statusCmd struct{ client }

func (c *statusCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	s, err := server.Status(ctx)
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(s)
	}
	mode := "redirecting"
	switch {
	case s.Paused:
		mode = "paused (kokkuri resume)"
	case s.DryRun:
		mode = "dry run: nobody is redirected"
	}
	if err := a.fields([]field{
		{"version", s.Version},
		{"started", a.stamp(s.StartedAt)},
		{"mode", mode},
		{"breaker open", joined(s.Breaker)},
		{"live redirects", strconv.Itoa(s.LiveRedirects)},
		{"log batches", fmt.Sprintf("%d taken, %d evaluated, %d waiting, %s kept", s.Stream.Last, s.Stream.Evaluated, s.Stream.Lag, bytes(int64(s.Stream.Bytes)))},
	}); err != nil {
		return err
	}
	var list []field
	for _, name := range slices.Sorted(maps.Keys(s.Counters)) {
		for _, label := range slices.Sorted(maps.Keys(s.Counters[name])) {
			list = append(list, field{"  " + name + " " + label, strconv.FormatInt(s.Counters[name][label], 10)})
		}
	}
	for _, q := range s.Quarantine {
		list = append(list, field{"  quarantined", fmt.Sprintf("%s from %s, %s: %s", q.Reason, q.Sender, a.ago(q.At), q.Line)})
	}
	if err := a.fields(list); err != nil {
		return err
	}
	return a.findings(s.Findings)
}

type labCmd struct {
	Up     labUpCmd     `cmd:"" help:"Bring the lab up: an attacker, a user, a protected host, server and node."`
	Attack labAttackCmd `cmd:"" help:"Run a real brute force in it and print what happened."`
	Status labStatusCmd `cmd:"" help:"Its machines."`
	Down   labDownCmd   `cmd:"" help:"Take it down and remove all that it made."`
	Bench  labBenchCmd  `cmd:"" help:"Measure the time from log line to redirect, and the agent's memory."`
	Log    labLogCmd    `cmd:"" help:"Write a log as hosts under attack have it, to try rules and parsers on."`
}

type labUpCmd struct {
	Road string `default:"agent" enum:"agent,rsyslog" help:"How the host's log reaches the server: ${enum}." placeholder:"ROAD"`
}

func (c *labUpCmd) Run(ctx context.Context, a *app) error {
	if a.roles.Lab.Up == nil {
		return missing("the lab")
	}
	return a.roles.Lab.Up(ctx, LabOptions{Out: a.env.Stdout, Road: c.Road})
}

type labDownCmd struct{}

func (c *labDownCmd) Run(ctx context.Context, a *app) error {
	if a.roles.Lab.Down == nil {
		return missing("the lab")
	}
	return a.roles.Lab.Down(ctx, LabOptions{Out: a.env.Stdout})
}

// labReport runs what makes a report; a bad one is exit code 1.
func (a *app) labReport(ctx context.Context, o output, fn func(context.Context, LabOptions) (any, bool, error)) error {
	if fn == nil {
		return missing("the lab")
	}
	opts := LabOptions{Out: a.env.Stdout}
	if a.wantsJSON(o) {
		opts.Out, opts.JSON = a.env.Stderr, true
	}
	report, ok, err := fn(ctx, opts)
	if opts.JSON && report != nil {
		if jsonErr := a.json(report); jsonErr != nil {
			return jsonErr
		}
	}
	if err == nil && !ok {
		err = errFailed
	}
	return err
}

type labAttackCmd struct{ output }

func (c *labAttackCmd) Run(ctx context.Context, a *app) error {
	return a.labReport(ctx, c.output, a.roles.Lab.Attack)
}

type labStatusCmd struct{ output }

func (c *labStatusCmd) Run(ctx context.Context, a *app) error {
	return a.labReport(ctx, c.output, a.roles.Lab.Status)
}

type labBenchCmd struct {
	output

	Offences int `short:"n" default:"200" help:"How many offences are measured by each road." placeholder:"N"`
}

func (c *labBenchCmd) Run(ctx context.Context, a *app) error {
	if c.Offences < 1 {
		return &usageError{text: fmt.Sprintf("--offences: found %d", c.Offences), hint: "allowed: 1 or more"}
	}
	if a.roles.Lab.Bench == nil {
		return missing("the lab")
	}
	return a.labReport(ctx, c.output, func(ctx context.Context, o LabOptions) (any, bool, error) {
		return a.roles.Lab.Bench(ctx, o, c.Offences)
	})
}
