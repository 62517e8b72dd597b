// Package advice looks at how the servers of a host are set to log, and says what keeps attacks out of their logs, each with its mend.
package advice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
)

// Options say what is collected on the host.
type Options struct {
	Files   []string        // of syslog
	Formats []native.Format // of logs that are converted
	Journal bool            // is followed
	Root    string          // folder under which /etc, /proc, /usr and /var are found; empty: the real ones
	// Redirected are the services whose sources may be redirected on the host.
	Redirected []event.Service
	// Defaults prints the options that MariaDB or MySQL reads from its files, and says what was looked at; nil:
	// PrintDefaults does, of the system's files.
	Defaults func(ctx context.Context) (options []byte, looked string, err error)
}

// maxFile bounds what is read of a file.
const maxFile = 1 << 20

// Look says what it found. What is well is not said.
func Look(ctx context.Context, o Options) []event.Finding {
	if o.Defaults == nil {
		o.Defaults = func(ctx context.Context) ([]byte, string, error) { return PrintDefaults(ctx, "") }
	}
	var out []event.Finding
	for _, f := range o.Formats {
		switch {
		case f.Service == event.MySQL && !slices.ContainsFunc(out, about("mysql")):
			out = append(out, o.mysql(ctx)...)
		case f.Service == event.Postgres && strings.HasSuffix(f.Name, "-stderr") && !slices.ContainsFunc(out, about("postgres")):
			out = append(out, o.postgres()...)
		}
	}
	return append(out, o.forgeable()...)
}

func about(subject string) func(event.Finding) bool {
	return func(f event.Finding) bool { return f.Subject == subject }
}

// forgeable names the files of syslog whose lines don't say who wrote them.
func (o Options) forgeable() []event.Finding {
	if o.Journal {
		return nil // the server takes a service's events by one road: what the journal brings is not taken from files
	}
	var out []event.Finding
	for _, path := range o.Files {
		end, err := o.end(path)
		if err != nil || len(end) == 0 || bytes.Contains(end, []byte(native.ElementID+" "+native.ParamUID)) {
			continue
		}
		out = append(out, event.Finding{
			Level: "warning", Subject: path,
			Text: event.Forgeable,
			Mend: "set agent.journal.follow: on where there is a journal, or let rsyslog write trusted properties (docs/roads.md)",
		})
	}
	return out
}

// end is the last of a file.
func (o Options) end(path string) ([]byte, error) {
	const enough = 16 << 10
	f, err := os.Open(o.path(path))
	if err != nil {
		return nil, err //nolint:wrapcheck // names path and operation already
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, err //nolint:wrapcheck // names path and operation already
	}
	b := make([]byte, min(enough, info.Size()))
	n, err := f.ReadAt(b, max(0, info.Size()-enough))
	if err != nil && n == 0 {
		return nil, err //nolint:wrapcheck // names path and operation already
	}
	return b[:n], nil
}

func (o Options) path(elements ...string) string {
	return filepath.Join(append([]string{"/", o.Root}, elements...)...)
}

// read returns a file's text, as far as it is looked at.
func (o Options) read(path string) string {
	f, err := os.Open(o.path(path))
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read from
	b, _ := io.ReadAll(io.LimitReader(f, maxFile))
	return string(b)
}

// command is the command line of a process with one of the names; empty where none runs.
func (o Options) command(names ...string) (name string, args []string) {
	found, _ := filepath.Glob(o.path("proc", "[0-9]*", "comm"))
	for _, path := range found {
		b, err := os.ReadFile(path)
		if name = strings.TrimSpace(string(b)); err != nil || !slices.Contains(names, name) {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if args = strings.Split(strings.TrimRight(string(line), "\x00"), "\x00"); err == nil && len(args) > 1 {
			return name, args
		}
	}
	return "", nil
}

// PrintDefaults has my_print_defaults print what the server reads from one option file, or, where file is empty, from the
// system's.
func PrintDefaults(ctx context.Context, file string) (options []byte, looked string, err error) {
	const program = "my_print_defaults"
	var args []string
	if file != "" {
		args = append(args, "--defaults-file="+file)
	}
	// MariaDB's knows which groups its server reads, also those with a version in their name; MySQL's does not.
	looked = program + " --mysqld"
	out, err := exec.CommandContext(ctx, program, append(args, "--mysqld")...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		groups := []string{"mysqld", "server", "mysqld-5.7", "mysqld-8.0", "mysqld-8.4", "mysqld-9.0"}
		looked = program + " " + strings.Join(groups, " ")
		out, err = exec.CommandContext(ctx, program, append(args, groups...)...).Output()
	}
	if err != nil {
		return nil, looked, fmt.Errorf("%s: %w", program, err)
	}
	return out, looked, nil
}
