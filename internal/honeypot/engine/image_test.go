package engine_test

import (
	"bytes"
	"context"
	"io/fs"
	"net"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/images"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

func newEngine(t *testing.T) *engine.Docker {
	t.Helper()
	d, err := engine.New(engine.Options{Node: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	return d
}

func TestImageOfPotsBuilds(t *testing.T) {
	d := newEngine(t)
	base, err := d.EnsureBase(t.Context(), t.Output())
	require.NoError(t, err)
	require.Equal(t, engine.BaseTag, base)

	files, err := fs.Sub(images.Files, "ssh")
	require.NoError(t, err)
	args := map[string]string{"BASE": base}
	require.NoError(t, d.BuildImage(t.Context(), "kokkuri/ssh:test", files, args, t.Output()))

	var second bytes.Buffer
	require.NoError(t, d.BuildImage(t.Context(), "kokkuri/ssh:test", files, args, &second))
	assert.Empty(t, second.String(), "the same content must not be built again")
}

func TestBuildReportsWhatFailed(t *testing.T) {
	d := newEngine(t)
	base, err := d.EnsureBase(t.Context(), t.Output())
	require.NoError(t, err)
	files := fstest.MapFS{"Dockerfile": {Data: []byte("ARG BASE\nFROM ${BASE}\nRUN echo on the way; exit 7\n")}}
	err = d.BuildImage(t.Context(), "kokkuri/never:test", files, map[string]string{"BASE": base}, t.Output())
	require.ErrorContains(t, err, "build kokkuri/never:test")
	assert.ErrorContains(t, err, "on the way")
}

func TestEngineThatDoesNotAnswer(t *testing.T) {
	d, err := engine.New(engine.Options{Host: "unix://" + filepath.Join(t.TempDir(), "docker.sock")})
	require.NoError(t, err)
	_, err = d.EnsureBase(t.Context(), t.Output())
	require.ErrorIs(t, err, engine.ErrUnreachable)
	var unreachable *engine.UnreachableError
	require.ErrorAs(t, err, &unreachable)
	assert.Contains(t, err.Error(), "cannot reach the Docker engine at unix://")
	assert.Contains(t, unreachable.Mend(), "systemctl start docker")
}

func TestEngineThatNeverAnswersEndsWithItsContext(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", sock)
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // a test's listener
	d, err := engine.New(engine.Options{Host: "unix://" + sock})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		c, err := l.Accept()
		cancel()
		if err == nil {
			c.Close() //nolint:errcheck // a test's connection
		}
	}()
	_, err = d.EnsureBase(ctx, t.Output())
	require.Error(t, err)
	assert.ErrorContains(t, err, "look for the image")
}
