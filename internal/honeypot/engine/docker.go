// Package engine runs pots on a Docker Engine and builds the images that they are made of.
package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/moby/moby/client"
)

// DefaultHost is where an engine listens unless configured otherwise.
const DefaultHost = client.DefaultDockerHost

// ErrUnreachable is the cause of every error that comes from an engine that does not answer.
var ErrUnreachable = errors.New("engine unreachable")

// Options say which engine to use.
type Options struct {
	Host   string // address of the engine; DefaultHost where empty
	Mirror string // Debian mirror for the base image; mmdebstrap's own default where empty
	Node   string // name of the node that owns the pots
	Log    *slog.Logger
}

// Docker is a Docker Engine that builds images and holds pots. Its methods may be called concurrently.
type Docker struct {
	o   Options
	cli *client.Client
	log *slog.Logger

	buildMu sync.Mutex // one image at a time
}

// New returns a client of the engine; it does not connect yet.
func New(o Options) (*Docker, error) {
	if o.Host == "" {
		o.Host = DefaultHost
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	cli, err := client.New(client.WithHost(o.Host), client.WithUserAgent("kokkuri"))
	if err != nil {
		return nil, fmt.Errorf("engine address %q: %w", o.Host, err)
	}
	return &Docker{o: o, cli: cli, log: o.Log}, nil
}

// Close ends idle connections to the engine.
func (d *Docker) Close() error {
	if err := d.cli.Close(); err != nil {
		return fmt.Errorf("close connections to the engine at %s: %w", d.o.Host, err)
	}
	return nil
}

// wrap says what was being done, and, for an engine that does not answer, how to mend that.
func (d *Docker) wrap(err error, doing string) error {
	switch {
	case err == nil:
		return nil
	case client.IsErrConnectionFailed(err):
		return &UnreachableError{Host: d.o.Host, Doing: doing, Err: err}
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}

// UnreachableError says that the engine could not be reached.
type UnreachableError struct {
	Host  string
	Doing string
	Err   error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cannot reach the Docker engine at %s: %v (while trying to %s)", e.Host, e.Err, e.Doing)
}

// Mend says what to do about it.
func (e *UnreachableError) Mend() string {
	return "start it with `systemctl start docker`, or set the engine's address in the configuration"
}

// Unwrap gives ErrUnreachable and the cause.
func (e *UnreachableError) Unwrap() []error { return []error{ErrUnreachable, e.Err} }
