package main

import (
	"context"
	"errors"
	"io"
	"runtime/debug"

	"github.com/kokkuri/kokkuri/internal/cli"
	"github.com/kokkuri/kokkuri/internal/server"
	explaining "github.com/kokkuri/kokkuri/internal/server/explain"
)

// Garbage is collected when there is three times as much as what is in use, and more often where the runtime would use more
// memory than that; the program itself takes some 12 MiB besides.
const (
	explainGarbage = 300
	explainMemory  = 78 << 20
)

func explain(ctx context.Context, o cli.Explain, logs []cli.Log, out io.Writer) error {
	debug.SetGCPercent(explainGarbage)
	debug.SetMemoryLimit(explainMemory)
	same, err := server.LoadOffline(o.Config)
	if err != nil {
		return wrongRules(err)
	}
	for _, text := range same.Faults {
		o.Warn(text)
	}
	opts := explaining.Options{Service: o.Service, JSON: o.JSON, Summary: o.Summary, Rules: same.Rules, HTTP: same.HTTP, OnList: same.OnList}
	if o.Progress != nil {
		opts.Progress = func(p explaining.Progress) { o.Progress(p.Read, p.Total, p.Lines) }
	}
	var inputs []explaining.Input
	for _, l := range logs {
		in := explaining.Input{Name: l.Name, Open: l.Open, Written: l.Written, Size: l.Size, Once: l.Once}
		if l.Once {
			in.Open = func() (io.ReadCloser, error) {
				r, err := l.Open()
				if err != nil {
					return nil, err
				}
				return io.NopCloser(explaining.Abandonable(ctx, r)), nil
			}
		}
		inputs = append(inputs, in)
	}
	_, err = explaining.Explain(ctx, inputs, out, opts)
	if errors.Is(err, explaining.ErrCompression) {
		return cli.Usage(err, "allowed: plain, gzip and zstd")
	}
	return err
}
