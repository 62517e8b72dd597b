// Package persona learns what a host is like, so that pots can pretend to be it: by reading its files and asking
// its SSH server for its settings. It learns no secrets: no hashes, no keys, no paths of them.
package persona

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Items that can be left out, beside All.
const (
	All       = "all"
	Hostname  = "hostname"
	OS        = "os"
	Kernel    = "kernel"
	TimeZone  = "time_zone"
	Locale    = "locale"
	Motd      = "motd"
	Accounts  = "accounts"
	SSH       = "ssh"
	Listening = "listening"
	Machine   = "machine"
	Network   = "network"
	Software  = "software"
)

const (
	maxFile     = 256 << 10
	maxOutput   = 64 << 10
	runWithin   = 5 * time.Second
	maxFindings = 8
)

// Options of a learner.
type Options struct {
	Host      string        // the host's name at Kokkuri
	Disable   []string      // items that are left out
	Addresses bool          // learn the network's addresses too
	Root      string        // where the host's files are; / where empty
	Chroot    bool          // run commands in Root
	Within    time.Duration // for a program to answer; 5 s where 0
}

// Learner looks at a host.
type Learner struct {
	o        Options
	findings []event.Finding
}

// Learn looks at the host once. What can't be read is left out; findings say what that was where it is odd.
func Learn(ctx context.Context, o Options) (event.Persona, []event.Finding) {
	l := learner(o)
	p := event.Persona{Name: o.Host}
	if slices.Contains(o.Disable, All) {
		return p, nil
	}
	for _, item := range []struct {
		name string
		look func(context.Context, *event.Persona)
	}{
		{Hostname, l.hostname},
		{OS, l.osRelease},
		{Kernel, l.kernel},
		{TimeZone, l.timeZone},
		{Locale, l.locale},
		{Motd, func(_ context.Context, p *event.Persona) { p.Motd = string(l.read("/etc/motd", maxFile)) }},
		{Accounts, l.accounts},
		{SSH, l.ssh},
		{Listening, l.listening},
		{Machine, l.machine},
		{Network, l.network},
		{Software, l.software},
	} {
		if !slices.Contains(o.Disable, item.name) {
			item.look(ctx, &p)
		}
	}
	p, problems := p.Clean()
	for _, problem := range problems[:min(len(problems), maxFindings)] {
		l.warn("left out: %s", problem.Error())
	}
	return p, l.findings
}

func learner(o Options) *Learner {
	if o.Root == "" {
		o.Root = "/"
	}
	if o.Within == 0 {
		o.Within = runWithin
	}
	return &Learner{o: o}
}

func (l *Learner) warn(format string, args ...any) {
	l.findings = append(l.findings, event.Finding{Level: "warning", Subject: "persona", Text: fmt.Sprintf(format, args...)})
}

func (l *Learner) path(name string) string { return filepath.Join(l.o.Root, name) }

// read returns the beginning of an ordinary file; nothing where there is none.
func (l *Learner) read(name string, most int64) []byte {
	data, _ := readFile(l.path(name), most)
	return data
}

func readFile(path string, most int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("learn: %w", err)
	}
	defer f.Close() //nolint:errcheck // read-only
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("learn: %s is no ordinary file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("learn: %w", err)
	}
	return data, nil
}

// line is the first line of a file, without white space around it.
func (l *Learner) line(name string) string {
	first, _, _ := strings.Cut(string(l.read(name, 4096)), "\n")
	return strings.TrimSpace(first)
}

// lines calls fn with each line of a file, of which it reads no more than most, until fn says that it is enough.
func (l *Learner) lines(name string, most int64, fn func(line string) (enough bool)) {
	f, err := os.OpenFile(l.path(name), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // read-only
	scan := bufio.NewScanner(io.LimitReader(f, most))
	scan.Buffer(make([]byte, 0, 4096), maxFile)
	for scan.Scan() {
		if fn(scan.Text()) {
			return
		}
	}
}

var errTooMuch = errors.New("it says too much")

// run runs one of the host's programs, and returns what it says; not found is fs.ErrNotExist.
func (l *Learner) run(ctx context.Context, program string, args ...string) ([]byte, error) {
	if _, err := os.Stat(l.path(program)); err != nil {
		return nil, fmt.Errorf("run %s: %w", program, fs.ErrNotExist)
	}
	ctx, cancel := context.WithTimeout(ctx, l.o.Within)
	defer cancel()
	cmd := l.command(ctx, program, args...)
	var said, complaint bounded
	cmd.Stdout, cmd.Stderr = &said, &complaint
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("run %s: it did not end within %s: %w", program, l.o.Within, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("run %s %s: %w: %s", program, strings.Join(args, " "), err, event.Bytes(firstLine(complaint.Bytes())).Escaped())
	case said.over:
		return nil, fmt.Errorf("run %s %s: %w", program, strings.Join(args, " "), errTooMuch)
	}
	return said.Bytes(), nil
}

func (l *Learner) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	if !l.o.Chroot {
		program = l.path(program)
	} else {
		args = append([]string{l.o.Root, program}, args...)
		program = "chroot"
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.WaitDelay = time.Second
	return cmd
}

func firstLine(data []byte) string {
	first, _, _ := bytes.Cut(bytes.TrimSpace(data), []byte("\n"))
	return string(first[:min(len(first), 200)])
}

// bounded keeps the beginning of what is written.
type bounded struct {
	bytes.Buffer

	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := len(p)
	if room := maxOutput - b.Len(); len(p) > room {
		b.over, p = true, p[:room]
	}
	_, _ = b.Buffer.Write(p) // never fails
	return n, nil
}
