package server

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/store"
)

func openStore(t *testing.T, s *site) *store.SQLite {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{Path: filepath.Join(Dir(s.conf), "kokkuri.db"), Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return st
}

func checkpointZero() store.Checkpoint { return store.Checkpoint{} }
