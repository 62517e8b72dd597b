package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/config"
)

// configFlag is the one flag that every command has.
type configFlag struct {
	Config string `help:"Configuration file ($$KOKKURI_CONFIG)." placeholder:"FILE" short:"c"`
}

func (c configFlag) file() string { return c.Config }

// globals takes what all commands have in common from the grammar and the environment.
func (a *app) globals(grammar any) {
	if g, ok := grammar.(interface{ file() string }); ok {
		a.configFile = g.file()
	}
	if a.configFile == "" {
		a.configFile = a.lookup("CONFIG")
	}
}

// client is what the commands have that ask the server.
type client struct {
	Socket string `help:"Socket where the server answers ($$KOKKURI_SOCKET)." placeholder:"PATH"`
	output
}

// output is what the commands have that print something.
type output struct {
	JSON bool `name:"json" help:"Print one JSON document ($$KOKKURI_JSON)."`
}

// wantsJSON reports whether the answer is for a program.
func (a *app) wantsJSON(o output) bool {
	v := a.lookup("JSON")
	return o.JSON || v == "1" || v == "true"
}

// connect makes the client of a command.
func (a *app) connect(c client) (*api.Client, error) {
	if c.Socket != "" {
		return api.NewClient(c.Socket), nil
	}
	l, err := a.load(nil)
	if err != nil {
		return nil, err
	}
	return api.NewClient(l.Socket), nil
}

// load reads the configuration; flags is the struct that kong filled from the command line, or nil.
func (a *app) load(flags any) (*config.Loaded, error) {
	o := config.Options{Path: a.configFile, Environ: a.env.Environ}
	if o.Path == "" {
		o.Path, o.Optional = a.usual, true
		// Who may not read the server's configuration may still have a socket to ask.
		if f, err := os.Open(o.Path); errors.Is(err, fs.ErrPermission) && flags == nil {
			o.Path = ""
		} else if err == nil {
			_ = f.Close()
		}
	}
	if flags != nil {
		o.Flags = a.overrides(flags)
	}
	l, err := config.Load(o)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return l, nil
}

// overrides are the values of a configuration struct that stood on the command line.
func (a *app) overrides(flags any) []config.Override {
	var out []config.Override
	for _, leaf := range config.Leaves(flags) {
		i := slices.IndexFunc(a.parsed.Path, func(p *kong.Path) bool {
			return p.Flag != nil && !p.Resolved && same(p.Flag.Target, leaf.Value)
		})
		if i >= 0 {
			out = append(out, config.Override{Key: leaf.Key, Flag: "--" + a.parsed.Path[i].Flag.Name, Value: leaf.Value})
		}
	}
	return out
}

func same(a, b reflect.Value) bool {
	return a.CanAddr() && b.CanAddr() && a.Type() == b.Type() && a.Addr().Pointer() == b.Addr().Pointer()
}

// start loads a role's configuration and makes its logger.
func (a *app) start(flags any) (*config.Loaded, *slog.Logger, error) {
	l, err := a.load(flags)
	if err != nil {
		return nil, nil, err
	}
	log := logger(a.env.Stderr, l.Log)
	for _, w := range l.Warnings {
		log.Warn(w) //nolint:sloglint // a whole sentence of its own
	}
	if l.Path != "" {
		log.Debug("configuration read", "file", l.Path)
	}
	return l, log, nil
}

func logger(w io.Writer, c config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // it was checked
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// leafMappers make kong parse values as the configuration file has them.
func leafMappers() []kong.Option {
	var options []kong.Option
	seen := map[reflect.Type]bool{}
	for _, leaf := range config.Leaves(&config.Up{}) {
		t := leaf.Value.Type()
		if kind := t.Kind(); seen[t] || !leaf.Scalar() || t.PkgPath() == "" && kind != reflect.Slice {
			continue
		}
		seen[t] = true
		options = append(options, kong.TypeMapper(t, kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
			var text string
			if err := ctx.Scan.PopValueInto("value", &text); err != nil {
				return fmt.Errorf("no value: %w", err)
			}
			value := reflect.New(t).Elem()
			if err := config.ParseText(value, text); err != nil {
				return fmt.Errorf("found %q; allowed: %w", text, err)
			}
			if t.Kind() == reflect.Slice {
				value = reflect.AppendSlice(target, value) // the flag may stand more than once
			}
			target.Set(value)
			return nil
		})))
	}
	return options
}

// nameVariables finds the environment variable of each flag that sets a configuration key.
func nameVariables(n *kong.Node, names map[*kong.Value]string) {
	for _, child := range n.Children {
		nameVariables(child, names)
	}
	if n.Target.Kind() != reflect.Struct || !n.Target.CanAddr() {
		return
	}
	for _, f := range n.Target.Fields() {
		if !isSettings(f.Type()) {
			continue
		}
		for _, leaf := range config.Leaves(f.Addr().Interface()) {
			for _, flag := range n.Flags {
				if same(flag.Target, leaf.Value) {
					names[flag.Value] = leaf.Env()
				}
			}
		}
	}
}

func isSettings(t reflect.Type) bool {
	return slices.Contains([]reflect.Type{
		reflect.TypeFor[config.Server](), reflect.TypeFor[config.Honeypot](), reflect.TypeFor[config.Agent](), reflect.TypeFor[config.Up](),
	}, t)
}

func openFile(name string) (in io.ReadCloser, written time.Time, err error) {
	f, err := os.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, written, &usageError{text: name + ": there is no such file"}
	case errors.Is(err, fs.ErrPermission):
		return nil, written, &usageError{text: name + ": may not be read by this user", hint: "run the command as root"}
	case err != nil:
		return nil, written, fmt.Errorf("open %s: %w", name, err)
	}
	if info, err := f.Stat(); err == nil {
		if info.IsDir() {
			_ = f.Close()
			return nil, written, &usageError{text: name + ": is a folder", hint: "allowed: a log file, or - for the standard input"}
		}
		written = info.ModTime()
	}
	return f, written, nil
}

// missing says that a binary lacks a part.
func missing(what string) error {
	return fmt.Errorf("%s is not part of this binary", what)
}
