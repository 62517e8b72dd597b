package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
	"github.com/kokkuri/kokkuri/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openStore(tb testing.TB, path string) *store.SQLite {
	tb.Helper()
	s, err := store.Open(context.Background(), store.Options{Path: path})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return s
}

func fresh(tb testing.TB) *store.SQLite {
	tb.Helper()
	return openStore(tb, filepath.Join(tb.TempDir(), "kokkuri.db"))
}

func at(minute int) time.Time { return time.Date(2026, 11, 22, 18, minute, 0, 123456789, time.UTC) }

func offence(id, source string, minute int) event.Offence {
	o := event.Offence{
		ID: id, Rule: "ssh-guessing", Service: event.SSH, Host: "web", Count: 5, First: at(minute - 1), Last: at(minute), FiredAt: at(minute),
		Line: event.Position{Sequence: 7, Index: 3}, Action: event.ActionRedirect, TTL: 24 * time.Hour, Outcome: "redirected",
		Proof:  []event.Proof{{Event: event.Event{Service: event.SSH, Kind: event.AuthFailed, Account: "root\x1b[31m\xff"}, Line: "Failed password"}},
		Logins: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.66:4022")},
	}
	if source != "" {
		o.Source = netip.MustParsePrefix(source)
	}
	return o
}

func redirect(id, source string, minute int, state event.State) event.Redirect {
	return event.Redirect{
		ID: id, Source: netip.MustParsePrefix(source), Host: "web", Service: event.SSH, Port: 22, Node: "node1", OffenceID: strings.TrimPrefix(id, "r"),
		Endpoint: netip.MustParseAddrPort("198.51.100.20:20001"), Rule: "ssh-guessing", State: state, CreatedAt: at(minute), ExpiresAt: at(minute).Add(24 * time.Hour),
	}
}

// same compares records; the store keeps what JSON keeps (invalid UTF-8 becomes the replacement character).
func same(t *testing.T, want, got any) {
	t.Helper()
	opts := cmp.Options{
		cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}, netip.AddrPort{}), cmpopts.EquateEmpty(),
		cmp.Transformer("utf8", func(s string) string { return strings.ToValidUTF8(s, "\ufffd") }),
	}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("not what was stored (-want +got):\n%s", diff)
	}
}

func TestOffenceIsStoredOnceWithItsRedirect(t *testing.T) {
	t.Parallel()
	s, ctx := fresh(t), t.Context()
	o, r := offence("o1", "203.0.113.66/32", 1), redirect("ro1", "203.0.113.66/32", 1, event.Pending)
	stored, err := s.SaveOffence(ctx, o, r)
	require.NoError(t, err)
	require.True(t, stored)

	again := r
	again.Endpoint = netip.MustParseAddrPort("198.51.100.20:20002")
	stored, err = s.SaveOffence(ctx, o, again)
	require.NoError(t, err)
	require.False(t, stored, "a replay stores the offence twice")

	gotO, err := s.Offence(ctx, "o1")
	require.NoError(t, err)
	same(t, o, gotO)
	gotR, err := s.Redirect(ctx, "ro1")
	require.NoError(t, err)
	same(t, r, gotR)

	_, err = s.Offence(ctx, "o2")
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestOffenceWithoutASource(t *testing.T) {
	t.Parallel()
	s, ctx := fresh(t), t.Context()
	o := offence("alert", "", 1)
	_, err := s.SaveOffence(ctx, o)
	require.NoError(t, err)
	got, err := s.Offences(ctx, store.Filter{})
	require.NoError(t, err)
	same(t, []event.Offence{o}, got)
	attackers, err := s.Attackers(ctx, store.Filter{})
	require.NoError(t, err)
	require.Empty(t, attackers)
}

func ids[T any](list []T, id func(T) string) []string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = id(e)
	}
	return out
}

func TestRedirectLists(t *testing.T) {
	t.Parallel()
	s, ctx := fresh(t), t.Context()
	for _, r := range []event.Redirect{
		redirect("a", "203.0.113.66/32", 1, event.Active),
		redirect("b", "203.0.113.67/32", 2, event.Pending),
		redirect("c", "2001:db8:1:66::/64", 3, event.Refused),
		redirect("d", "203.0.113.66/32", 4, event.Expired),
		redirect("e", "2001:db8:1:66::66/128", 5, event.Released),
	} {
		require.NoError(t, s.SaveRedirect(ctx, r))
	}
	for name, test := range map[string]struct {
		filter store.Filter
		want   []string
	}{
		"all, newest first":     {store.Filter{}, []string{"e", "d", "c", "b", "a"}},
		"limit":                 {store.Filter{Limit: 2}, []string{"e", "d"}},
		"live":                  {store.Filter{Live: true}, []string{"c", "b", "a"}},
		"one address":           {store.Filter{Source: netip.MustParsePrefix("203.0.113.66/32")}, []string{"d", "a"}},
		"a network":             {store.Filter{Source: netip.MustParsePrefix("203.0.113.0/24"), Limit: 2}, []string{"d", "b"}},
		"IPv6 address":          {store.Filter{Source: netip.MustParsePrefix("2001:db8:1:66::66/128")}, []string{"e", "c"}},
		"other address of /64":  {store.Filter{Source: netip.MustParsePrefix("2001:db8:1:66::1/128")}, []string{"c"}},
		"IPv6 /64":              {store.Filter{Source: netip.MustParsePrefix("2001:db8:1:66::/64")}, []string{"e", "c"}},
		"host that has none":    {store.Filter{Host: "db"}, []string{}},
		"host and live and one": {store.Filter{Host: "web", Live: true, Source: netip.MustParsePrefix("203.0.113.66/32")}, []string{"a"}},
	} {
		got, err := s.Redirects(ctx, test.filter)
		require.NoError(t, err)
		require.Equal(t, test.want, ids(got, func(r event.Redirect) string { return r.ID }), name)
	}
	leases, err := s.Leases(ctx, "node1")
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "c"}, ids(leases, func(l event.Lease) string { return l.ID }))
	require.Equal(t, netip.MustParseAddrPort("198.51.100.20:20001"), leases[0].Endpoint)

	ended := redirect("a", "203.0.113.66/32", 1, event.Released)
	require.NoError(t, s.SaveRedirect(ctx, ended))
	live, err := s.Redirects(ctx, store.Filter{Live: true})
	require.NoError(t, err)
	require.Equal(t, []string{"c", "b"}, ids(live, func(r event.Redirect) string { return r.ID }))
}

func TestASessionThatClosedStaysClosed(t *testing.T) {
	t.Parallel()
	s, ctx := fresh(t), t.Context()
	opened := event.Session{ID: "0123456789ab", Node: "node1", Host: "web", Attacker: netip.MustParsePrefix("203.0.113.66/32"), StartedAt: at(1)}
	closed := opened
	closed.EndedAt, closed.BytesIn = at(2), 42
	for _, e := range []event.Session{opened, closed, opened} {
		require.NoError(t, s.PutReport(ctx, event.SessionReport{Session: e}))
	}
	got, err := s.Session(ctx, opened.ID)
	require.NoError(t, err)
	same(t, closed, got)
	live, err := s.Sessions(ctx, store.Filter{Live: true})
	require.NoError(t, err)
	require.Empty(t, live)
}

func TestAttackersAreSummedUp(t *testing.T) {
	t.Parallel()
	s, ctx := fresh(t), t.Context()
	source := "203.0.113.66/32"
	r := redirect("ro1", source, 1, event.Active)
	_, err := s.SaveOffence(ctx, offence("o1", source, 1), r)
	require.NoError(t, err)
	second := offence("o2", source, 5)
	second.Host = "db"
	_, err = s.SaveOffence(ctx, second)
	require.NoError(t, err)
	_, err = s.SaveOffence(ctx, offence("o3", "203.0.113.67/32", 3))
	require.NoError(t, err)
	require.NoError(t, s.PutReport(ctx, event.SessionReport{Session: event.Session{ID: "1", Host: "web", Attacker: netip.MustParsePrefix(source), StartedAt: at(6), EndedAt: at(9)}}))

	got, err := s.Attackers(ctx, store.Filter{})
	require.NoError(t, err)
	require.Len(t, got, 2)
	same(t, store.Attacker{
		Source: netip.MustParsePrefix(source), FirstSeen: at(1), LastSeen: at(9), Offences: 2, Guesses: 10, Redirects: 1, Live: 1, Sessions: 1,
		Hosts: []string{"db", "web"},
	}, got[0])
	got, err = s.Attackers(ctx, store.Filter{Host: "db"})
	require.NoError(t, err)
	require.Len(t, got, 1)
	got, err = s.Attackers(ctx, store.Filter{Source: netip.MustParsePrefix("203.0.113.67/32")})
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, 0, got[0].Live)
}

func TestCheckpointAndLogins(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kokkuri.db")
	s, ctx := openStore(t, path), t.Context()
	seq, state, err := s.LoadCheckpoint(ctx)
	require.NoError(t, err)
	require.Zero(t, seq)
	require.Empty(t, state)

	friend := store.Login{LoginKey: store.LoginKey{Host: "web", Source: netip.MustParsePrefix("192.0.2.7/32")}, TrustedAt: at(1), LastAt: at(1)}
	guesser := store.Login{
		LoginKey: store.LoginKey{Host: "web", Source: netip.MustParsePrefix("2001:db8::/64")}, FailedAt: at(2), LastAt: at(3), Failures: 3, Account: "root",
	}
	require.NoError(t, s.SaveCheckpoint(ctx, store.Checkpoint{Sequence: 7, State: []byte("seven"), Put: []store.Login{guesser, friend}}))
	require.NoError(t, s.SaveCheckpoint(ctx, store.Checkpoint{Sequence: 8}))
	seq, state, err = s.LoadCheckpoint(ctx)
	require.NoError(t, err)
	require.Equal(t, uint64(8), seq)
	require.Empty(t, state)
	logins, err := s.Logins(ctx, time.Time{})
	require.NoError(t, err)
	same(t, []store.Login{friend, guesser}, logins)
	require.NoError(t, s.SaveCheckpoint(ctx, store.Checkpoint{Sequence: 9, Gone: []store.LoginKey{friend.LoginKey}}))
	logins, err = s.Logins(ctx, at(2))
	require.NoError(t, err)
	same(t, []store.Login{guesser}, logins)
}

// TestWhatIsStoredSurvivesAKill opens a copy of the files as they are while the store is open.
func TestWhatIsStoredSurvivesAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, ctx := openStore(t, filepath.Join(dir, "kokkuri.db")), t.Context()
	r := redirect("ro1", "203.0.113.66/32", 1, event.Pending)
	_, err := s.SaveOffence(ctx, offence("o1", "203.0.113.66/32", 1), r)
	require.NoError(t, err)
	require.NoError(t, s.SaveCheckpoint(ctx, store.Checkpoint{Sequence: 5, State: []byte("x")}))

	after := t.TempDir()
	require.NoError(t, os.CopyFS(after, os.DirFS(dir)))
	again := openStore(t, filepath.Join(after, "kokkuri.db"))
	seq, _, err := again.LoadCheckpoint(ctx)
	require.NoError(t, err)
	require.Equal(t, uint64(5), seq)
	live, err := again.Redirects(ctx, store.Filter{Live: true})
	require.NoError(t, err)
	require.Len(t, live, 1)
}

func TestHostsNodesAndPots(t *testing.T) {
	t.Parallel()
	s, ctx := fresh(t), t.Context()
	require.NoError(t, s.EnrolHost(ctx, "web", at(1)))
	status := event.HostStatus{Host: "web", Version: "v1", Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.10")}, At: at(2)}
	require.NoError(t, s.PutHost(ctx, status, at(3)))
	require.NoError(t, s.PutHost(ctx, event.HostStatus{Host: "db"}, at(4)))
	hosts, err := s.Hosts(ctx)
	require.NoError(t, err)
	same(t, []store.Host{{Name: "db", LastSeen: at(4), Status: event.HostStatus{Host: "db"}}, {Name: "web", EnrolledAt: at(1), LastSeen: at(3), Status: status}}, hosts)
	require.NoError(t, s.RemoveHost(ctx, "db"))
	require.ErrorIs(t, s.RemoveHost(ctx, "db"), store.ErrNotFound)

	pot := event.Pot{ID: "c1", Name: "p", Node: "node1", Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web", CreatedAt: at(1)}
	other := pot
	other.ID, other.CreatedAt = "c2", at(2)
	require.NoError(t, s.EnrolNode(ctx, "node1", at(1)))
	require.NoError(t, s.PutNode(ctx, event.NodeStatus{Node: "node1", Pots: []event.Pot{pot, other}, At: at(2)}, at(5)))
	pots, err := s.Pots(ctx, store.Filter{Source: pot.Attacker})
	require.NoError(t, err)
	same(t, []event.Pot{other, pot}, pots)
	require.NoError(t, s.PutNode(ctx, event.NodeStatus{Node: "node1", Pots: []event.Pot{pot}, At: at(2)}, at(6)))
	nodes, err := s.Nodes(ctx)
	require.NoError(t, err)
	same(t, []store.Node{{Name: "node1", EnrolledAt: at(1), LastSeen: at(6), Status: event.NodeStatus{Node: "node1", Pots: []event.Pot{pot}, At: at(2)}}}, nodes)
	require.NoError(t, s.RemoveNode(ctx, "node1"))
	pots, err = s.Pots(ctx, store.Filter{})
	require.NoError(t, err)
	require.Empty(t, pots)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	s, ctx := fresh(t), t.Context()
	var _ pki.TokenStore = s
	token := pki.StoredToken{Hash: "h1", Role: pki.RoleHost, Name: "web", Expires: at(10)}
	require.NoError(t, s.PutToken(ctx, token))
	require.Error(t, s.PutToken(ctx, token), "the same token twice")
	_, status, err := s.TakeToken(ctx, "h0", "key", at(1))
	require.NoError(t, err)
	require.Equal(t, pki.TokenUnknown, status)

	var winner atomic.Value
	var taken atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			key := fmt.Sprintf("key %d", i)
			got, status, err := s.TakeToken(ctx, "h1", key, at(9))
			switch {
			case err != nil || got != token:
				t.Errorf("take: %v, %v", got, err)
			case status == pki.TokenOK:
				winner.Store(key)
				taken.Add(1)
			case status != pki.TokenUsed:
				t.Errorf("take: %s", status)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int32(1), taken.Load(), "how many got the one-time token")
	key, _ := winner.Load().(string)
	for minute, want := range map[int]pki.TokenStatus{10: pki.TokenOK, 11: pki.TokenExpired} {
		_, status, err = s.TakeToken(ctx, "h1", key, at(minute))
		require.NoError(t, err)
		require.Equal(t, want, status, "whose answer was lost asks again")
	}
}

func TestAllowList(t *testing.T) {
	t.Parallel()
	s, ctx := fresh(t), t.Context()
	office := store.Allowed{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Note: "office", CreatedAt: at(1)}
	require.NoError(t, s.AllowAdd(ctx, office))
	office.Note = "the office"
	require.NoError(t, s.AllowAdd(ctx, office))
	got, err := s.AllowList(ctx)
	require.NoError(t, err)
	same(t, []store.Allowed{office}, got)
	require.NoError(t, s.AllowRemove(ctx, office.Prefix))
	require.ErrorIs(t, s.AllowRemove(ctx, office.Prefix), store.ErrNotFound)
}

func TestSettingsAndCounters(t *testing.T) {
	t.Parallel()
	s, ctx := fresh(t), t.Context()
	for _, want := range []bool{true, false} {
		require.NoError(t, s.SetPaused(ctx, want))
		got, err := s.Paused(ctx)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.NoError(t, s.SaveCounters(ctx, map[string]map[string]int64{"lines": {"agent": 3}}))
	require.NoError(t, s.SaveCounters(ctx, map[string]map[string]int64{"lines": {"agent": 4, "file": 1}, "events": {"probe": 1}}))
	got, err := s.LoadCounters(ctx)
	require.NoError(t, err)
	same(t, map[string]map[string]int64{"lines": {"agent": 4, "file": 1}, "events": {"probe": 1}}, got)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	s, ctx := fresh(t), t.Context()
	old := redirect("ro1", "203.0.113.66/32", 1, event.Active) // live, though it is old
	_, err := s.SaveOffence(ctx, offence("o1", "203.0.113.66/32", 1), old)
	require.NoError(t, err)
	over := redirect("ro2", "203.0.113.67/32", 1, event.Expired)
	over.ExpiresAt = at(3)
	_, err = s.SaveOffence(ctx, offence("o2", "203.0.113.67/32", 1), over)
	require.NoError(t, err)
	_, err = s.SaveOffence(ctx, offence("o3", "203.0.113.67/32", 50))
	require.NoError(t, err)
	require.NoError(t, s.PutReport(ctx, event.SessionReport{Session: event.Session{ID: "1", StartedAt: at(1), EndedAt: at(2)}}))
	require.NoError(t, s.PutReport(ctx, event.SessionReport{Session: event.Session{ID: "2", StartedAt: at(1), EndedAt: at(40)}}))
	n, err := s.Prune(ctx, at(30))
	require.NoError(t, err)
	require.Equal(t, int64(3), n)
	offences, err := s.Offences(ctx, store.Filter{})
	require.NoError(t, err)
	require.Equal(t, []string{"o3", "o1"}, ids(offences, func(o event.Offence) string { return o.ID }))
}

// TestWritesAtOnce stores much at the same time: all of it is there, in whatever group it was committed.
func TestWritesAtOnce(t *testing.T) {
	t.Parallel()
	s, ctx := fresh(t), t.Context()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			id := fmt.Sprintf("o%d", i%100) // each twice
			r := redirect("r"+id, "203.0.113.66/32", 1, event.Pending)
			if _, err := s.SaveOffence(ctx, offence(id, "203.0.113.66/32", 1), r); err != nil {
				t.Errorf("save: %v", err)
			}
			if i%10 == 0 {
				if err := s.AllowRemove(ctx, netip.MustParsePrefix("192.0.2.0/24")); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("a write that fails among others: %v", err)
				}
			}
		})
	}
	wg.Wait()
	got, err := s.Redirects(ctx, store.Filter{})
	require.NoError(t, err)
	require.Len(t, got, 100)
}

func TestACallerThatGaveUpChangesNothing(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.SetPaused(ctx, true)
	require.ErrorIs(t, err, context.Canceled)
	paused, err := s.Paused(t.Context())
	require.NoError(t, err)
	require.False(t, paused)
}

func TestFileIsPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	s := openStore(t, filepath.Join(dir, "kokkuri.db"))
	require.NoError(t, s.SetPaused(t.Context(), true))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(entries), 2, "the database and its log")
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), e.Name())
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kokkuri.db")
	s, err := store.Open(t.Context(), store.Options{Path: path})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
	require.NoError(t, err)
	require.NoError(t, db.Close())
	_, err = store.Open(t.Context(), store.Options{Path: path})
	require.ErrorIs(t, err, store.ErrNewer)
}

func TestAFileThatIsNoDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kokkuri.db")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("no database ", 100)), 0o600))
	_, err := store.Open(t.Context(), store.Options{Path: path})
	require.ErrorContains(t, err, "open store "+path)
}

// TestSchema compares what the migrations make with schema.sql, which is there to be read.
func TestSchema(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kokkuri.db")
	openStore(t, path)
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	rows, err := db.QueryContext(t.Context(), "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'goose%' AND name NOT LIKE 'sqlite%' ORDER BY name")
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	var got strings.Builder
	got.WriteString("-- What the migrations make, by name. A test keeps it so; to change the schema write a migration.\n")
	for rows.Next() {
		var statement string
		require.NoError(t, rows.Scan(&statement))
		fmt.Fprintf(&got, "\n%s;\n", statement)
	}
	require.NoError(t, rows.Err())
	want, err := os.ReadFile("schema.sql")
	require.NoError(t, err)
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("schema.sql is not what the migrations make (-file +made):\n%s", diff)
		if os.Getenv("UPDATE") != "" {
			require.NoError(t, os.WriteFile("schema.sql", []byte(got.String()), 0o600))
		}
	}
}

func BenchmarkSaveOffence(b *testing.B) {
	s := fresh(b)
	i := 0
	for b.Loop() {
		i++
		id := fmt.Sprintf("o%d", i)
		o := offence(id, "203.0.113.66/32", 1)
		r := redirect("r"+id, "203.0.113.66/32", 1, event.Pending)
		if _, err := s.SaveOffence(context.Background(), o, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSaveCheckpoint(b *testing.B) {
	s := fresh(b)
	state := make([]byte, 1<<20)
	i := uint64(0)
	for b.Loop() {
		i++
		if err := s.SaveCheckpoint(context.Background(), store.Checkpoint{Sequence: i, State: state}); err != nil {
			b.Fatal(err)
		}
	}
}
