// Package cli is the command line: what can be asked, how the answers look, and which exit codes say how it went.
package cli

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// Exit codes.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2 // wrong usage or configuration
)

// Env is what a process has around it.
type Env struct {
	Args     []string // without the program's name
	Environ  []string // as os.Environ gives it
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	Colour   bool // Stdout is a terminal that shows colours
	Terminal bool // Stderr is a terminal: progress may be shown there
	Version  string
	Hostname string
	Now      func() time.Time
}

// Roles are the parts of Kokkuri that the commands start; what is nil is not in this binary.
type Roles struct {
	Server   func(context.Context, config.Server, *slog.Logger) error
	Honeypot func(context.Context, config.Honeypot, *slog.Logger) error
	Agent    func(context.Context, config.Agent, *slog.Logger) error
	Up       func(context.Context, config.Up, *slog.Logger) error
	// Enroll gets the host's certificate with a one-time token.
	Enroll func(ctx context.Context, c config.Agent, token string) error
	// AgentStatus asks the agent of this host.
	AgentStatus func(ctx context.Context, c config.Agent) (AgentStatus, error)
	// ReleaseAll takes every redirect out of this host's kernel.
	ReleaseAll func(ctx context.Context, c config.Agent) error
	Explain    func(ctx context.Context, o Explain, logs []Log, out io.Writer) error
	// WriteLog writes a log as an attacked host has it, with the truth about it.
	WriteLog  func(o GeneratedLog, out io.Writer) (truth any, err error)
	TestRules func(ctx context.Context, file string, out io.Writer) error
	Lab       Lab
	Images    Images
	Checks    Checks
}

// AgentStatus is what an agent tells of itself.
type AgentStatus struct {
	Running   bool             `json:"running"`
	Host      string           `json:"host,omitempty"`
	Version   string           `json:"version,omitempty"`
	Connected bool             `json:"connected"`
	Redirects []event.Redirect `json:"redirects"`
	Findings  []event.Finding  `json:"findings"`
}

// Explain is what `kokkuri explain` is asked.
type Explain struct {
	Config  config.Server // what the server reads and detects by
	Service event.Service
	JSON    bool
	Summary bool // only the summary
	// Warn is told what makes the answer another than the server's.
	Warn func(text string)
	// Progress, where given, is told how far it is: bytes of the logs, and lines.
	Progress func(read, total int64, lines int)
}

// Log is a log that was named on the command line.
type Log struct {
	Name    string
	Open    func() (io.ReadCloser, error)
	Written time.Time // when it was last written; it gives times without a year theirs
	Size    int64     // 0 where it is not known
	Once    bool      // it can be opened only once
}

// GeneratedLog is what `kokkuri lab log` is asked.
type GeneratedLog struct {
	Lines   int
	Seed    uint64
	Stamp   string // iso or rfc3164
	OpenSSH int    // 9, 10 or 0: both
	Begin   time.Time
}

// Lab is the network on one machine. Each function writes its progress for people to o.Out.
type Lab struct {
	Up     func(ctx context.Context, o LabOptions) error
	Down   func(ctx context.Context, o LabOptions) error
	Attack func(ctx context.Context, o LabOptions) (report any, ok bool, err error)
	Status func(ctx context.Context, o LabOptions) (report any, ok bool, err error)
	// Bench measures n offences.
	Bench func(ctx context.Context, o LabOptions, n int) (report any, ok bool, err error)
}

// LabOptions are what the lab's commands have in common.
type LabOptions struct {
	Out  io.Writer // progress and results for people
	JSON bool      // the report is printed as JSON, so Out needs no results
	Road string    // agent or rsyslog
}

// Checks are what doctor can't look at by itself.
type Checks struct {
	Rules func(file string) error        // validates a rules file
	Watch func(how string) event.Finding // says how programs in pots would be seen
}
