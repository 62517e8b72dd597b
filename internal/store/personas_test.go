package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/store"
)

func TestPersonas(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	ctx := t.Context()
	_, err := s.Persona(ctx, "web")
	require.ErrorIs(t, err, store.ErrNotFound)
	p := event.Persona{Name: "web", Hostname: "web", SSH: event.PersonaSSH{Settings: map[string]string{"maxauthtries": "6", "usedns": "no"}}}
	require.NoError(t, s.EnrolHost(ctx, "web", at(0)))
	require.NoError(t, s.PutPersona(ctx, "web", p, at(1)))
	require.NoError(t, s.PutPersona(ctx, "web", p, at(2)))
	got, err := s.Persona(ctx, "web")
	require.NoError(t, err)
	require.Equal(t, store.Persona{Host: "web", ChangedAt: at(1), Persona: p}, got, "the same again is no change")
	p.Hostname = "web2"
	require.NoError(t, s.PutPersona(ctx, "web", p, at(3)))
	all, err := s.Personas(ctx)
	require.NoError(t, err)
	require.Equal(t, []store.Persona{{Host: "web", ChangedAt: at(3), Persona: p}}, all)

	require.NoError(t, s.AssignPersona(ctx, "web", "shop", at(1)))
	require.NoError(t, s.AssignPersona(ctx, "db", "base", at(1)))
	require.NoError(t, s.AssignPersona(ctx, "db", "", at(2)))
	assigned, err := s.AssignedPersonas(ctx)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"web": "shop"}, assigned)

	require.NoError(t, s.RemoveHost(ctx, "web"))
	_, err = s.Persona(ctx, "web")
	require.ErrorIs(t, err, store.ErrNotFound)
	assigned, err = s.AssignedPersonas(ctx)
	require.NoError(t, err)
	require.Empty(t, assigned)
}
