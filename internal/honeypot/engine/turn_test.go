package engine

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOneProcessMakesImagesAtATime(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	done, err := takeTurn(t.Context())
	require.NoError(t, err)
	soon, cancel := context.WithTimeout(t.Context(), 2*turnPoll)
	defer cancel()
	_, err = takeTurn(soon)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	next := make(chan struct{})
	go func() {
		defer close(next)
		done, err := takeTurn(t.Context())
		if assert.NoError(t, err) {
			done()
		}
	}()
	done()
	select {
	case <-next:
	case <-time.After(time.Minute):
		t.Fatal("the next one waits on")
	}
}
