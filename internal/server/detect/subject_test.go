package detect

import (
	"net/netip"
	"testing"

	"github.com/kokkuri/kokkuri/internal/event"
)

// TestSubjectsOfOneHash: keys that meet are told apart, whichever of them goes first.
func TestSubjectsOfOneHash(t *testing.T) {
	t.Parallel()
	s := newSubjects()
	sh := &shape{byAccount: true, room: 1}
	all := map[string]*subject{}
	for _, account := range []string{"a", "b", "c"} {
		all[account] = newSubject(&subjectKey{shape: sh, account: account}, 7)
		s.add(all[account])
	}
	check := func() {
		t.Helper()
		seen := 0
		for of := range s.all {
			if all[of.key.account] != of {
				t.Errorf("%q is there", of.key.account)
			}
			seen++
		}
		if seen != len(all) {
			t.Errorf("%d of %d", seen, len(all))
		}
		for _, account := range []string{"a", "b", "c", "d"} {
			if of := s.find(7, &subjectKey{shape: sh, account: account}); of != all[account] {
				t.Errorf("%q: found %v", account, of)
			}
		}
	}
	check()
	for _, account := range []string{"b", "c", "a"} {
		s.remove(all[account])
		delete(all, account)
		check()
	}
	if len(s.by) != 0 {
		t.Errorf("%d hashes are left", len(s.by))
	}
}

// TestKeysSayWhatTheyAreAbout: what is cut of an address comes back as the network that it is in.
func TestKeysSayWhatTheyAreAbout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		source     string
		ipv4, ipv6 int
		want       string
	}{
		{"203.0.113.66", 32, 64, "203.0.113.66/32"},
		{"203.0.113.66", 24, 64, "203.0.113.0/24"},
		{"203.0.113.66", 8, 64, "203.0.0.0/8"},
		{"::ffff:203.0.113.66", 24, 64, "203.0.113.0/24"},
		{"0.0.0.0", 32, 64, "0.0.0.0/32"},
		{"2001:db8:1:2:3:4:5:6", 32, 64, "2001:db8:1:2::/64"},
		{"2001:db8:1:2:3:4:5:6", 32, 128, "2001:db8:1:2:3:4:5:6/128"},
		{"2001:db8:1:2:3:4:5:6%eth0", 32, 96, "2001:db8:1:2:3:4::/96"},
		{"2001:db8:1:2:3:4:5:6", 32, 32, "2001:db8::/32"},
		{"::", 32, 64, "::/64"},
	} {
		s := &shape{bySource: true, byHost: true, ipv4: c.ipv4, ipv6: c.ipv6}
		k, ok := s.keyOf(&event.Event{Source: netip.MustParseAddr(c.source), Host: "web"})
		if got := k.prefix().String(); !ok || got != c.want {
			t.Errorf("%s: %v %s, want %s", c.source, ok, got, c.want)
		}
		again, ok := s.keyOfGroup(k.group())
		if !ok || again != k {
			t.Errorf("%s: the group's key is another", c.source)
		}
		wider := k.group()
		wider.Source = netip.PrefixFrom(wider.Source.Addr(), wider.Source.Bits()-1)
		if _, ok := s.keyOfGroup(wider); ok {
			t.Errorf("%s: a wider network is a group", c.source)
		}
	}
	if _, ok := (&shape{bySource: true, ipv4: 32, ipv6: 64}).keyOf(&event.Event{}); ok {
		t.Error("an event without a source has a key")
	}
}
