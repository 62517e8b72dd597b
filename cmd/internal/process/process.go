// Package process is what both binaries have around them: signals, environment and terminal.
package process

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/cli"
)

// forced is the exit code of a process that a second signal ended.
const forced = 1

// Context ends at the first SIGINT or SIGTERM, so that the process stops in order; the second ends it
// at once through exit.
func Context(exit func(int)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case s := <-signals:
				if n > 0 {
					exit(forced)
				}
				cancel(fmt.Errorf("%w: %s", context.Canceled, s))
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(context.Canceled)
	}
}

// Hangups tells of each SIGHUP until ctx ends; several that come at once are one.
func Hangups(ctx context.Context) <-chan struct{} {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	out := make(chan struct{}, 1)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				select {
				case out <- struct{}{}:
				default:
				}
			}
		}
	}()
	return out
}

// Env is the process's.
func Env(version string) cli.Env {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = ""
	}
	return cli.Env{
		Args: os.Args[1:], Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Colour: colour(os.Stdout), Terminal: colour(os.Stderr), Version: version, Hostname: hostname, Now: time.Now,
	}
}

// colour reports whether a file is a terminal that may show colours: https://no-color.org.
func colour(f *os.File) bool {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
