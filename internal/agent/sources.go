package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/agent/advice"
	"github.com/kokkuri/kokkuri/internal/agent/collect"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
)

// sources are what the configuration has collected on this host.
func sources(c config.Agent) collect.Options {
	o := collect.Options{Files: c.Files, DockerSocket: c.Docker}
	if follow, only := journalWanted(c); follow {
		o.Journal = &collect.Journal{Identifiers: c.Journal.Identifiers, Units: c.Journal.Units, Directory: c.Journal.Directory}
		if only {
			o.Files = nil
		}
	}
	for _, l := range c.Logs {
		o.Logs = append(o.Logs, collect.Log{Path: l.Path, Format: format(l.Format, l.Program)})
	}
	if c.Discover {
		for _, l := range discover("/") {
			if !slices.ContainsFunc(o.Logs, func(have collect.Log) bool { return have.Path == l.Path }) && !slices.Contains(o.Files, l.Path) {
				o.Logs = append(o.Logs, l)
			}
		}
	}
	for _, l := range c.Containers {
		o.Containers = append(o.Containers, collect.Container{Name: l.Name, Format: format(l.Format, l.Program)})
	}
	for _, r := range c.Redis {
		o.Redis = append(o.Redis, collect.Redis{
			Address: r.Address, Username: r.Username, PasswordFile: r.PasswordFile, TLS: r.TLS, CAFile: r.CAFile,
			ServerName: r.ServerName, CertFile: r.CertFile, KeyFile: r.KeyFile,
		})
	}
	return o
}

// format is the one that a configuration names; it was checked that there is one.
func format(name, program string) native.Format {
	if f, ok := native.Find(name); ok {
		return f
	}
	return collect.Plain(program)
}

// journalWanted says whether the journal is followed, and whether in place of files: none of which is there.
func journalWanted(c config.Agent) (follow, only bool) {
	switch c.Journal.Follow {
	case "on":
		return true, false
	case "auto":
		if _, err := exec.LookPath("journalctl"); err != nil {
			return false, false
		}
		for _, file := range c.Files {
			if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
				return false, false
			}
		}
		dirs := []string{"/run/log/journal", "/var/log/journal"}
		if c.Journal.Directory != "" {
			dirs = []string{c.Journal.Directory}
		}
		for _, dir := range dirs {
			for _, pattern := range []string{"*.journal", "*/*.journal"} {
				if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) > 0 {
					return true, true
				}
			}
		}
	}
	return false, false
}

// usualLogs are where Debian's servers write what is no syslog.
func usualLogs() [][2]string {
	return [][2]string{
		{"/var/log/mysql/error.log", "mysql-error"},
		{"/var/log/mysql/mariadb-error.log", "mysql-error"},
		{"/var/log/postgresql/postgresql-*.log", "postgres-stderr"},
		{"/var/log/postgresql/postgresql-*.csv", "postgres-csv"},
		{"/var/log/postgresql/postgresql-*.json", "postgres-json"},
		{"/var/log/nginx/access.log", "nginx-access"},
		{"/var/log/nginx/error.log", "nginx-error"},
		{"/var/log/apache2/access.log", "apache-access"},
		{"/var/log/apache2/error.log", "apache-error"},
		{"/var/log/vsftpd.log", "vsftpd"},
		{"/var/log/proftpd/proftpd.log", "proftpd"},
	}
}

// discover finds the logs that are there.
func discover(root string) []collect.Log {
	var out []collect.Log
	for _, usual := range usualLogs() {
		f, ok := native.Find(usual[1])
		if !ok {
			continue
		}
		found, _ := filepath.Glob(filepath.Join(root, usual[0]))
		for _, path := range found {
			out = append(out, collect.Log{Path: path, Format: f})
		}
	}
	return out
}

// adviceEvery is how often it is looked at how servers are set to log.
const adviceEvery = 10 * time.Minute

// advise looks at how the host's servers are set to log.
func advise(ctx context.Context, c config.Agent, o collect.Options) []event.Finding {
	look := advice.Options{Files: o.Files, Journal: o.Journal != nil}
	for _, s := range services(c) {
		look.Redirected = append(look.Redirected, s.Service)
	}
	for _, l := range o.Logs {
		look.Formats = append(look.Formats, l.Format)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return advice.Look(ctx, look)
}

// keepAdvised looks again and again until ctx ends.
func (a *Agent) keepAdvised(ctx context.Context, o collect.Options) {
	tick := time.NewTicker(adviceEvery)
	defer tick.Stop()
	for {
		found := advise(ctx, a.opts.Config, o)
		a.advice.Store(&found)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// unread are the logs that an agent could not read if one ran.
func unread(o collect.Options) []event.Finding {
	var out []event.Finding
	for _, l := range o.Logs {
		f, err := os.Open(l.Path)
		if err == nil {
			_ = f.Close()
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			out = append(out, event.Finding{Level: "error", Subject: l.Path, Text: err.Error(), Mend: "run the agent as root, or let its user read the file"})
		}
	}
	return out
}

// look is what doctor says of the host's logs where no agent runs.
func look(ctx context.Context, c config.Agent) []event.Finding {
	o := sources(c)
	o.Log = slog.New(slog.DiscardHandler)
	return append(unread(o), advise(ctx, c, o)...)
}
