package cli

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
)

// potWithSessions is what `pots show --json` prints.
type potWithSessions struct {
	event.Pot

	Sessions []event.Session `json:"sessions"`
}

// Run shows a pot and what was recorded in it. One that is gone is told by its sessions: the last of them has what its
// attacker had changed.
func (c *potsShowCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	pot, err := api.Show[event.Pot](ctx, server, api.PathPots, c.ID)
	var refused *api.Error
	gone := errors.As(err, &refused) && refused.Status == http.StatusNotFound
	if err != nil && !gone {
		return err
	}
	var f api.Filter
	if !gone {
		f.Source = pot.Attacker
	}
	all, listErr := api.List[event.Session](ctx, server, api.PathSessions, f)
	if listErr != nil {
		return listErr
	}
	sessions := sessionsIn(all, pot.ID, c.ID)
	if gone {
		if len(sessions) == 0 {
			return err
		}
		s := sessions[0]
		pot = event.Pot{ID: s.PotID, Node: s.Node, Attacker: s.Attacker, Host: s.Host, State: "gone"}
	}
	if a.wantsJSON(c.output) {
		return a.json(potWithSessions{Pot: pot, Sessions: sessions})
	}
	if err := a.fields(potView().fields(a, pot)); err != nil || len(sessions) == 0 {
		return err
	}
	return a.sessionsOfPot(sessions)
}

// sessionsIn picks the sessions that reached a pot, which is known, or else named by how its id begins.
func sessionsIn(all []event.Session, known, begins string) []event.Session {
	const enough = 12 // digits
	out := []event.Session{}
	for _, s := range all {
		if s.PotID != "" && (s.PotID == known || known == "" && len(begins) >= enough && strings.HasPrefix(s.PotID, begins)) {
			out = append(out, s)
		}
	}
	return out
}

func (a *app) sessionsOfPot(sessions []event.Session) error {
	if err := a.printf("\n"); err != nil {
		return err
	}
	rows := make([][]cell, len(sessions))
	for i, s := range sessions {
		what := plain(string(s.Service))
		if s.Service == event.ServicePot {
			what = plain("the pot's own")
		}
		rows[i] = []cell{plain(s.ID), what, plain(a.ago(s.StartedAt)), some(s.Commands), some(s.Executed), some(s.Evidence), plain(s.Reason)}
	}
	return a.table([]string{"SESSION", "SERVICE", "STARTED", "COMMANDS", "PROGRAMS", "EVIDENCE", "ENDED"}, rows, "")
}
