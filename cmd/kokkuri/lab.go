package main

import (
	"context"
	"io"

	"github.com/kokkuri/kokkuri/internal/cli"
	"github.com/kokkuri/kokkuri/internal/lab"
	"github.com/kokkuri/kokkuri/internal/loggen"
)

func labOptions(o cli.LabOptions) lab.Options { return lab.Options{Out: o.Out, Road: lab.Road(o.Road)} }

// withLab runs fn on the lab of this machine.
func withLab(o cli.LabOptions, fn func(*lab.Lab) error) error {
	l, err := lab.New(labOptions(o))
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // its connections end with the process
	return fn(l)
}

func labCommands() cli.Lab {
	return cli.Lab{
		Up: func(ctx context.Context, o cli.LabOptions) error {
			return withLab(o, func(l *lab.Lab) error { return l.Up(ctx) })
		},
		Down: func(ctx context.Context, o cli.LabOptions) error {
			return withLab(o, func(l *lab.Lab) error { return l.Down(ctx) })
		},
		Attack: func(ctx context.Context, o cli.LabOptions) (report any, ok bool, err error) {
			err = withLab(o, func(l *lab.Lab) error {
				r, err := l.Attack(ctx)
				report, ok = r, r.OK
				return err
			})
			return report, ok, err
		},
		Status: func(ctx context.Context, o cli.LabOptions) (report any, ok bool, err error) {
			err = withLab(o, func(l *lab.Lab) error {
				report, ok, err = l.Status(ctx)
				return err
			})
			return report, ok, err
		},
		Bench: func(ctx context.Context, o cli.LabOptions, n int) (report any, ok bool, err error) {
			all, err := lab.BenchAll(ctx, labOptions(o), n)
			return all, err == nil, err
		},
	}
}

func writeLog(o cli.GeneratedLog, out io.Writer) (truth any, err error) {
	return loggen.Write(out, loggen.Options{Lines: o.Lines, Seed: o.Seed, Stamp: loggen.Stamp(o.Stamp), OpenSSH: o.OpenSSH})
}
