package record_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
)

func homeless() event.Pot {
	return event.Pot{ID: "c1", Name: "pot", Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web"}
}

func called(name string) event.Evidence {
	return event.Evidence{Kind: event.EvidenceEgress, Egress: &event.Egress{What: "name", Name: event.Bytes(name)}}
}

func TestEvidenceOfAPotHasAHome(t *testing.T) {
	v := openVault(t, t.TempDir(), nil)
	var mu sync.Mutex
	told := map[string]event.Session{}
	h := record.NewHomes(record.HomesOptions{
		Node: "node1", Vault: v, Idle: 50 * time.Millisecond,
		Session: func(s event.Session) error { mu.Lock(); defer mu.Unlock(); told[s.ID] = s; return nil },
		Target:  func(event.PotKey) event.Target { return netip.MustParseAddrPort("203.0.113.10:22") },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { h.Run(ctx, "node stopping"); close(ran) }()
	k := event.PotKey{Attacker: homeless().Attacker, Host: "web"}

	// While sessions are in the pot, the one that reached it last has what it does.
	var recs []*record.Recorder
	var lefts []func()
	for _, id := range []string{"000000000001", "000000000002"} {
		rec, err := v.Begin(headerOf(id))
		require.NoError(t, err)
		recs, lefts = append(recs, rec), append(lefts, h.Enter(k, rec))
	}
	h.Note(homeless(), called("a"))
	lefts[1]()
	h.Note(homeless(), called("b"))
	lefts[0]()
	lefts[0]()
	other := homeless()
	other.Host = "db"
	h.Note(other, called("c"))
	h.Note(homeless(), called("d"))
	for i, want := range []event.Bytes{"b", "a"} {
		sum, _, err := recs[i].Close("done")
		require.NoError(t, err)
		got := leftBy(t, v, []string{"000000000001", "000000000002"}[i], sum)
		require.Len(t, got, 2)
		assert.Equal(t, want, got[0].Egress.Name)
	}

	// Then each pot has a session of its own, until nothing comes any more.
	ended := func() (out []event.Session) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range told {
			if !s.EndedAt.IsZero() {
				out = append(out, s)
			}
		}
		return out
	}
	require.Eventually(t, func() bool { return len(ended()) == 2 }, time.Minute, 5*time.Millisecond)
	for _, s := range ended() {
		assert.Equal(t, event.ServicePot, s.Service)
		assert.Equal(t, record.PotQuiet, s.Reason)
		assert.Equal(t, "203.0.113.10:22", s.Target.String())
		got := leftBy(t, v, s.ID, s.Recording)
		require.Len(t, got, 2)
		assert.Equal(t, map[string]event.Bytes{"db": "c", "web": "d"}[s.Host], got[0].Egress.Name)
	}
	h.Note(homeless(), called("e"))
	h.Gone(k)
	h.Note(homeless(), called("f"))
	cancel()
	<-ran
	h.Note(homeless(), called("too late"))
	assert.Len(t, ended(), 4)
	assert.Len(t, told, 4, "none stays open")
}
