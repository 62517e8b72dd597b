package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/kokkuri/kokkuri/internal/event"
)

type explainCmd struct {
	output

	Files   fileArgs `arg:"" name:"file" help:"Log files, plain, gzip or zstd; read in the order of their times. - is the standard input."`
	Rules   string   `help:"Rules file; without it those of the configuration (server.rules), else the built-in rules." placeholder:"FILE"`
	Service string   `help:"What lines are of that don't say it." placeholder:"S"`
	Summary bool     `help:"Only the summary."`
}

// fileArgs are the rest of the arguments, of which any may be "-".
type fileArgs []string

// Decode takes the arguments from kong, which takes a "-" after another argument for a flag.
func (f *fileArgs) Decode(ctx *kong.DecodeContext) error {
	for {
		t := ctx.Scan.Peek()
		name, ok := t.Value.(string)
		if !ok || t.IsEOL() || !t.IsValue() && name != "-" {
			return nil
		}
		ctx.Scan.Pop()
		*f = append(*f, name)
	}
}

func (c *explainCmd) Run(ctx context.Context, a *app) error {
	if a.roles.Explain == nil {
		return missing("explain")
	}
	if s := event.Service(c.Service); s != "" && !slices.Contains(event.Services(), s) {
		return &usageError{text: "--service: found " + c.Service, hint: fmt.Sprintf("allowed: one of %v", event.Services())}
	}
	var logs []Log
	for _, name := range c.Files {
		if name == "-" && slices.ContainsFunc(logs, func(l Log) bool { return l.Once }) {
			return &usageError{text: "- is named twice", hint: "the standard input can be read once"}
		}
		l, err := a.log(name)
		if err != nil {
			return err
		}
		logs = append(logs, l)
	}
	o := Explain{Service: event.Service(c.Service), JSON: a.wantsJSON(c.output), Summary: c.Summary, Warn: a.warn}
	settings, err := a.load(nil)
	if err != nil {
		return err
	}
	if f, err := os.Open(a.usual); settings.Path == "" && a.configFile == "" && errors.Is(err, fs.ErrPermission) {
		a.warn(a.usual + " may not be read by this user: explained as without it")
	} else if err == nil {
		_ = f.Close()
	}
	o.Config = settings.ServerConfig()
	if c.Rules != "" {
		o.Config.Rules = c.Rules
	}
	if a.env.Terminal {
		bar := &progressBar{w: a.env.Stderr}
		defer bar.clear()
		o.Progress = bar.show
	}
	return a.roles.Explain(ctx, o, logs, a.env.Stdout)
}

func (a *app) warn(text string) {
	fmt.Fprintf(a.env.Stderr, "kokkuri: warning: %s\n", text) //nolint:errcheck // there is nobody else to tell
}

// log is a log named on the command line that can be read, as far as can be told.
func (a *app) log(name string) (Log, error) {
	if name == "-" {
		return Log{Name: name, Once: true, Open: func() (io.ReadCloser, error) { return io.NopCloser(a.env.Stdin), nil }}, nil
	}
	l := Log{Name: name, Open: func() (io.ReadCloser, error) {
		f, _, err := openFile(name)
		return f, err
	}}
	info, err := os.Stat(name)
	if l.Once = err == nil && !info.IsDir() && !info.Mode().IsRegular(); l.Once { // a pipe gives what it has once
		return l, nil
	}
	f, written, err := openFile(name)
	if err != nil {
		return Log{}, err
	}
	l.Written, l.Size = written, info.Size()
	if err := f.Close(); err != nil {
		return Log{}, fmt.Errorf("close %s: %w", name, err)
	}
	return l, nil
}

// progressBar shows on a terminal how far something is.
type progressBar struct {
	w     io.Writer
	shown int
}

func (b *progressBar) show(read, total int64, lines int) {
	text := fmt.Sprintf("%s lines, %s read", thousands(lines), bytes(read))
	if total > 0 {
		const width = 30
		done := int(min(read, total) * width / total)
		text = fmt.Sprintf("[%s%s] %3d %%  %s lines", strings.Repeat("#", done), strings.Repeat(".", width-done), min(read, total)*100/total, thousands(lines))
	}
	pad := max(0, b.shown-len(text))
	b.shown = len(text)
	fmt.Fprintf(b.w, "\r%s%s", text, strings.Repeat(" ", pad)) //nolint:errcheck // there is nobody else to tell
}

// clear takes the bar away.
func (b *progressBar) clear() {
	if b.shown > 0 {
		fmt.Fprintf(b.w, "\r%s\r", strings.Repeat(" ", b.shown)) //nolint:errcheck // likewise
	}
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

type labLogCmd struct {
	Lines   int    `default:"1000000" help:"How many lines." placeholder:"N"`
	Seed    uint64 `default:"1" help:"The same seed gives the same log." placeholder:"N"`
	Times   string `default:"iso" enum:"iso,rfc3164" help:"Form of the times: ${enum}." placeholder:"FORM"`
	OpenSSH int    `name:"openssh" default:"0" enum:"0,9,10" help:"Version of the hosts' sshd: 9, 10, or 0 for hosts of both." placeholder:"V"`
	Begin   string `help:"Time of the beginning, RFC 3339." default:"2026-10-01T00:00:00Z" placeholder:"TIME"`
	Truth   string `help:"Write what is true about the log (guesses, offenders) to this file, as JSON." placeholder:"FILE"`
}

func (c *labLogCmd) Run(a *app) (err error) {
	if a.roles.WriteLog == nil {
		return missing("the lab")
	}
	if c.Lines < 0 {
		return &usageError{text: fmt.Sprintf("--lines: found %d", c.Lines), hint: "allowed: 0 or more"}
	}
	begin, err := time.Parse(time.RFC3339, c.Begin)
	if err != nil {
		return &usageError{text: "--begin: found " + c.Begin, hint: "allowed: a time like 2026-10-01T00:00:00Z"}
	}
	truth, err := a.roles.WriteLog(GeneratedLog{Begin: begin, Lines: c.Lines, Seed: c.Seed, Stamp: c.Times, OpenSSH: c.OpenSSH}, a.env.Stdout)
	if err != nil || c.Truth == "" {
		return err
	}
	f, err := os.Create(c.Truth)
	if err != nil {
		return fmt.Errorf("write the truth: %w", err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("write the truth: %w", closeErr)
		}
	}()
	return writeLine(f, truth)
}
