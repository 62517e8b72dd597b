package trouble_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/trouble"
)

func TestToldOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	k := trouble.New(slog.New(slog.NewTextHandler(&out, nil)), "log file")
	open := event.Finding{Level: trouble.Error, Subject: "/var/log/a", Text: "cannot be read", Mend: "chmod"}
	watch := event.Finding{Level: trouble.Warning, Subject: "/var/log/a", Text: "is not watched", Mend: "wait"}
	require.Empty(t, k.List())
	k.Clear("open")
	require.Empty(t, out.String(), "what was not there is not over")
	k.Set("watch", watch)
	k.Set("open", open)
	k.Set("open", open)
	require.Equal(t, []event.Finding{open, watch}, k.List())
	open.Text = "cannot be read any more"
	k.Set("open", open)
	require.Equal(t, []event.Finding{open, watch}, k.List(), "how it is now")
	require.Equal(t, 1, strings.Count(out.String(), "level=ERROR"))
	require.Equal(t, 1, strings.Count(out.String(), "level=WARN"))
	k.Clear("open")
	k.Clear("open")
	require.Equal(t, []event.Finding{watch}, k.List())
	require.Equal(t, 1, strings.Count(out.String(), "trouble is over"))
	k.Set("open", open)
	require.Equal(t, 2, strings.Count(out.String(), "level=ERROR"), "it came again")
}
