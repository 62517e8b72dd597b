package native_test

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kokkuri/kokkuri/internal/native"
)

// aclEntry sets the fields of an entry as Redis 7.2 and later name them; pairs overwrite.
func aclEntry(t *testing.T, pairs ...string) native.ACLEntry {
	t.Helper()
	var e native.ACLEntry
	fields := append([]string{
		"count", "1", "reason", "auth", "context", "toplevel", "object", "AUTH", "username", "alice", "age-seconds", "8.5",
		"client-info", "id=3 addr=203.0.113.66:4022 laddr=203.0.113.10:6379 fd=8 name= age=16 cmd=auth user=default",
		"field-of-a-later-version", "x",
	}, pairs...)
	for i := 0; i < len(fields); i += 2 {
		if err := e.Set(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// TestACLEntryRecords: one new time is the last client's; of more, all but one may be others'.
func TestACLEntryRecords(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 18, 0, 10, 0, time.UTC)
	e := aclEntry(t, "count", "12")
	if got := e.Records(0, now); got != nil {
		t.Errorf("nothing new, and yet %v", got)
	}
	sure := native.Record{
		Time: now.Add(-8500 * time.Millisecond),
		Text: []byte(`ACL LOG: auth denied from 203.0.113.66:4022, count 1, user "alice", object "AUTH", context toplevel`),
		Params: []native.Param{
			{Name: "source", Value: "203.0.113.66"},
			{Name: "source_port", Value: "4022"},
			{Name: "format", Value: "redis-acl-log"},
			{Name: "reason", Value: "auth"},
			{Name: "count", Value: "1"},
			{Name: "account", Value: "alice"},
			{Name: "object", Value: "AUTH"},
		},
	}
	if diff := cmp.Diff([]native.Record{sure}, e.Records(1, now)); diff != "" {
		t.Errorf("one new (-want +got):\n%s", diff)
	}
	unsure := native.Record{
		Time: sure.Time,
		Text: []byte(`ACL LOG: auth denied from an unsure source, count 4, user "alice", object "AUTH", context toplevel`),
		Params: []native.Param{
			{Name: "format", Value: "redis-acl-log"},
			{Name: "reason", Value: "auth"},
			{Name: "count", Value: "4"},
			{Name: "account", Value: "alice"},
			{Name: "object", Value: "AUTH"},
		},
	}
	if diff := cmp.Diff([]native.Record{unsure, sure}, e.Records(5, now)); diff != "" {
		t.Errorf("five new (-want +got):\n%s", diff)
	}
	e = aclEntry(t, "client-info", "id=3 addr=/run/redis.sock:0 fd=8 name=", "timestamp-last-updated", "1795370400123", "entry-id", "7")
	list := e.Records(5, now)
	if len(list) != 1 || len(list[0].Params) != 5 || !list[0].Time.Equal(time.UnixMilli(1795370400123)) || !e.HasID || e.ID != 7 {
		t.Errorf("by a Unix socket: %+v, entry %+v", list, e)
	}
}

// TestACLEntryClient: what a client says of itself is not its address.
func TestACLEntryClient(t *testing.T) {
	t.Parallel()
	none := netip.AddrPort{}
	right := netip.MustParseAddrPort("203.0.113.66:4022")
	for _, c := range []struct {
		info string
		want netip.AddrPort
	}{
		{"id=3 addr=203.0.113.66:4022 laddr=127.0.0.1:6379 fd=8 name= age=16", right},
		{"id=3 addr=203.0.113.66:4022", right},
		{"id=3 addr=[2001:db8:1:66::66]:4022 laddr=[::1]:6379 fd=8", netip.MustParseAddrPort("[2001:db8:1:66::66]:4022")},
		{"id=3 addr=[::ffff:203.0.113.66]:4022 fd=8", right},
		{"id=3 addr=203.0.113.66:4022 fd=8 name=addr=198.51.100.9:1 lib-name= addr=198.51.100.9:1", right},
		{"id=3 fd=8 name=x addr=198.51.100.9:1", none},
		{"id=3 name=x addr=198.51.100.9:1", none},
		{"name=x id=3 addr=198.51.100.9:1", none},
		{"id= addr=198.51.100.9:1", none},
		{"id=3 addr=evil.example:1 name=", none},
		{"id=3 addr=?:0 name=", none},
		{"id=3 addr=/run/198.51.100.9:1/redis.sock:0 name=", none},
		{"", none},
	} {
		got, ok := native.ACLEntry{ClientInfo: c.info}.Client()
		if got != c.want || ok != c.want.IsValid() {
			t.Errorf("%q: %v %v, want %v", c.info, got, ok, c.want)
		}
	}
}

// TestACLEntryHostileName: a name of any bytes and length stays within its parameter and its quotes.
func TestACLEntryHostileName(t *testing.T) {
	t.Parallel()
	name := "x\"] \\ \n\x1b[2J\xff" + strings.Repeat("A", 1<<20)
	list := aclEntry(t, "username", name).Records(1, time.Now())
	if len(list) != 1 || len(list[0].Text) > 2048 || bytes.ContainsFunc(list[0].Text, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("%+v", list)
	}
	var e native.ACLEntry
	for _, c := range [][2]string{{"count", "x"}, {"count", "-1"}, {"age-seconds", ""}, {"entry-id", "1e3"}, {"timestamp-created", " 1"}} {
		if err := e.Set(c[0], c[1]); err == nil {
			t.Errorf("%s %q is taken", c[0], c[1])
		}
	}
	if diff := cmp.Diff(native.ACLEntry{}, e, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("refused values are kept:\n%s", diff)
	}
}
