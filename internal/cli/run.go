package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/config"
)

// app is one run of a command.
type app struct {
	env        Env
	roles      Roles
	parsed     *kong.Context
	configFile string // of --config or the environment; empty: the default place
	usual      string // the default place
}

// errFailed ends a command with exit code 1; what failed was told already.
var errFailed = errors.New("failed")

// usageError is wrong usage that kong doesn't see.
type usageError struct {
	text, hint string
	cause      error
}

func (e *usageError) Error() string { return e.text }

func (e *usageError) Unwrap() error { return e.cause }

// Usage makes an error of a role one of wrong usage or configuration: exit code 2.
func Usage(err error, hint string) error {
	return &usageError{text: err.Error(), hint: hint, cause: err}
}

// exitNow ends parsing, as after --help.
type exitNow int

// run parses the arguments for a grammar and runs the command that they name.
func run(ctx context.Context, name, description string, grammar any, a *app) (code int) {
	if a.env.Now == nil {
		a.env.Now = time.Now
	}
	defer func() {
		if e, ok := recover().(exitNow); ok {
			code = int(e)
		}
	}()
	parser, err := a.parser(ctx, name, description, grammar)
	if err != nil {
		return a.fail(name, fmt.Errorf("grammar: %w", err))
	}
	a.parsed, err = parser.Parse(a.env.Args)
	if err != nil {
		return a.fail(name, err)
	}
	a.globals(grammar)
	if err := a.parsed.Run(a); err != nil {
		return a.fail(name, err)
	}
	return ExitDone
}

func (a *app) parser(ctx context.Context, name, description string, grammar any) (*kong.Kong, error) {
	variables := map[*kong.Value]string{}
	options := []kong.Option{
		kong.Name(name),
		kong.Description(description),
		kong.Writers(a.env.Stdout, a.env.Stderr),
		kong.Exit(func(code int) { panic(exitNow(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ValueFormatter(func(v *kong.Value) string {
			return described(v, variables[v])
		}),
		kong.BindTo(ctx, (*context.Context)(nil)), // the commands get the run's context
	}
	options = append(options, leafMappers()...)
	parser, err := kong.New(grammar, options...)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	nameVariables(parser.Model.Node, variables)
	return parser, nil
}

// described is a flag's help with its default and its environment variable.
func described(v *kong.Value, env string) string {
	var notes []string
	if v.HasDefault && v.Default != "" {
		notes = append(notes, "default "+v.Default)
	}
	if env != "" {
		notes = append(notes, "$"+env)
	}
	if len(notes) == 0 {
		return v.Help
	}
	return strings.TrimSuffix(v.Help, ".") + " (" + strings.Join(notes, ", ") + ")."
}

// fail tells what went wrong, and what to do about it, and returns the exit code.
func (a *app) fail(name string, err error) int {
	if errors.Is(err, errFailed) {
		return ExitFailed
	}
	message, hint, code := err.Error(), "", ExitFailed
	if e, ok := errors.AsType[*kong.ParseError](err); ok {
		hint, code = "try: "+strings.TrimSpace(name+" "+command(e.Context))+" --help", ExitUsage
	} else if e, ok := errors.AsType[*usageError](err); ok {
		hint, code = e.hint, ExitUsage
	} else if isConfig(err) {
		code = ExitUsage
		hint = "`" + strings.Fields(name)[0] + " config show` prints every key with its value; docs and --help say what they mean"
		if name != "kokkuri" {
			hint = ""
		}
	} else if e, ok := errors.AsType[*api.Error](err); ok {
		hint = e.Hint
		message = strings.TrimSuffix(message, "\n"+hint)
		if e.Status == 400 {
			code = ExitUsage
		}
	}
	for line := range strings.SplitSeq(message, "\n") {
		a.warnf("%s: %s", name, line)
	}
	if hint != "" {
		a.warnf("%s", hint)
	}
	return code
}

func isConfig(err error) bool {
	if _, ok := errors.AsType[config.Errors](err); ok {
		return true
	}
	_, ok := errors.AsType[*config.Error](err)
	return ok
}

// command is what of a command was understood.
func command(c *kong.Context) string {
	if c == nil {
		return ""
	}
	var words []string
	for _, p := range c.Path {
		if p.Command != nil {
			words = append(words, p.Command.Name)
		}
	}
	return strings.Join(words, " ")
}

// warnf writes a line to the standard error.
func (a *app) warnf(format string, args ...any) {
	fmt.Fprintf(a.env.Stderr, format+"\n", args...) //nolint:errcheck // there is nobody else to tell
}

// printf writes to the standard output.
func (a *app) printf(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.env.Stdout, format, args...); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// json writes one document to the standard output.
func (a *app) json(v any) error {
	enc := json.NewEncoder(a.env.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// lookup reads an environment variable of Kokkuri's.
func (a *app) lookup(name string) string {
	for _, e := range a.env.Environ {
		if value, ok := strings.CutPrefix(e, config.EnvPrefix+name+"="); ok {
			return value
		}
	}
	return ""
}
