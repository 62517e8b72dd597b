package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

const (
	// BaseTag names the image that all others start from, unless they are of another suite.
	BaseTag = basePrefix + DefaultSuite
	// DefaultSuite is Debian's name for the distribution that images are made of.
	DefaultSuite = "bookworm"

	basePrefix = "kokkuri/base:"
	mergedUsr  = "/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh"
	pullIdle   = 10 * time.Second // a registry that says nothing for so long is given up
)

// EnsureBase makes sure that the base image exists and returns its tag.
func (d *Docker) EnsureBase(ctx context.Context, progress io.Writer) (string, error) {
	return d.EnsureSuite(ctx, DefaultSuite, progress)
}

// EnsureSuite makes sure that the base image of one of Debian's suites exists and returns its tag. It is Debian's
// own image where a registry answers, else it is made of Debian's packages with mmdebstrap.
func (d *Docker) EnsureSuite(ctx context.Context, suite string, progress io.Writer) (string, error) {
	d.buildMu.Lock()
	defer d.buildMu.Unlock()

	tag, registryBase := basePrefix+suite, "debian:"+suite+"-slim"
	if there, err := d.has(ctx, tag); there || err != nil {
		return tag, err
	}
	done, err := takeTurn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	if there, err := d.has(ctx, tag); there || err != nil { // by whoever had its turn before
		return tag, err
	}
	say(progress, "base image: pulling %s", registryBase)
	pullErr := d.pull(ctx, registryBase)
	if pullErr == nil {
		_, err = d.cli.ImageTag(ctx, client.ImageTagOptions{Source: registryBase, Target: tag})
		return tag, d.wrap(err, "tag "+registryBase+" as "+tag)
	}
	if ctx.Err() != nil || errors.Is(pullErr, ErrUnreachable) {
		return "", pullErr
	}
	say(progress, "base image: no registry (%v)", pullErr)
	say(progress, "base image: making it with mmdebstrap out of Debian's packages (half a minute)")
	if err := d.bootstrap(ctx, suite, tag, progress); err != nil {
		return "", err
	}
	return tag, nil
}

func (d *Docker) has(ctx context.Context, tag string) (bool, error) {
	_, err := d.cli.ImageInspect(ctx, tag)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, d.wrap(err, "look for the image "+tag)
}

// say tells people how far it is; that they don't listen is no failure.
func say(progress io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(progress, format+"\n", args...)
}

// pull fetches an image; silence for pullIdle is a failure.
func (d *Docker) pull(ctx context.Context, ref string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(pullIdle, func() {
		cancel(fmt.Errorf("the registry said nothing for %s", pullIdle))
	})
	defer idle.Stop()

	doing := "pull " + ref
	resp, err := d.cli.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err != nil {
		return d.wrap(causeOf(ctx, err), doing)
	}
	for msg, err := range resp.JSONMessages(ctx) {
		if err != nil {
			return d.wrap(causeOf(ctx, err), doing)
		}
		if msg.Error != nil {
			return fmt.Errorf("%s: %w", doing, msg.Error)
		}
		idle.Reset(pullIdle)
	}
	return nil
}

// causeOf prefers the reason why ctx was cancelled to the error that this led to.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("given up: %w", cause)
	}
	return err
}

// bootstrap makes the base image with mmdebstrap and imports it into the engine.
func (d *Docker) bootstrap(ctx context.Context, suite, tag string, progress io.Writer) error {
	path, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return fmt.Errorf("make the base image: no registry answers and mmdebstrap is not installed (apt-get install mmdebstrap): %w", err)
	}
	args := []string{"--variant=minbase", "--format=tar"}
	if _, err := os.Stat(mergedUsr); err == nil && suite != DefaultSuite {
		// As Debian's installer has had it since 10; from 12 on it is always so. Only the first of the hooks: the second wants a
		// package that older releases lack, and the first makes one up, which goes again.
		args = append(args, `--setup-hook=`+mergedUsr+` "$1"`, `--customize-hook=chroot "$1" dpkg --purge usr-is-merged`)
	}
	args = append(args, suite, "-")
	if d.o.Mirror != "" {
		args = append(args, d.o.Mirror)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tail := &tailWriter{limit: 4096}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = io.MultiWriter(progress, tail)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("run mmdebstrap: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run mmdebstrap: %w", err)
	}
	importErr := d.importImage(ctx, out, tag)
	if importErr != nil {
		cancel() // nobody reads the archive any more
	}
	if err := cmd.Wait(); err != nil && importErr == nil {
		// The engine took half an archive for a whole one.
		_, _ = d.cli.ImageRemove(context.WithoutCancel(ctx), tag, client.ImageRemoveOptions{Force: true})
		return fmt.Errorf("make the base image: mmdebstrap: %w: %s", err, strings.TrimSpace(tail.String()))
	}
	return importErr
}

func (d *Docker) importImage(ctx context.Context, archive io.Reader, tag string) error {
	doing := "import " + tag
	resp, err := d.cli.ImageImport(ctx,
		client.ImageImportSource{Source: archive, SourceName: "-"}, tag,
		client.ImageImportOptions{
			Message: "made with mmdebstrap",
			Changes: []string{`CMD ["/bin/bash"]`},
		})
	if err != nil {
		return d.wrap(err, doing)
	}
	defer resp.Close() //nolint:errcheck // read to its end below
	return readStream(resp, io.Discard, doing)
}

// tailWriter keeps the last bytes of what is written to it.
type tailWriter struct {
	limit int
	buf   bytes.Buffer
}

func (w *tailWriter) Write(p []byte) (int, error) {
	w.buf.Write(p)
	if over := w.buf.Len() - w.limit; over > 0 {
		w.buf.Next(over)
	}
	return len(p), nil
}

func (w *tailWriter) String() string { return w.buf.String() }
