package detect_test

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
)

// TestWindows plays the cases of testdata/windows.
func TestWindows(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/windows/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string][]string{}
	name := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "### "); ok {
			name = title
		} else if line != "" && !strings.HasPrefix(line, "#") {
			cases[name] = append(cases[name], line)
		}
	}
	if len(cases) < 24 {
		t.Errorf("only %d cases", len(cases))
	}
	for name, lines := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, lines)
		})
	}
}

func play(t *testing.T, lines []string) {
	t.Helper()
	d := detect.New(detect.Options{Rules: twoRules()})
	var got, want []string
	last := ""
	pos := event.Position{Sequence: 7}
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "=> "):
			want = append(want, line)
		case line == "close":
			if !d.Close(last) || d.Close(last) {
				t.Errorf("offence %q is not open once", last)
			}
		default:
			got, want = append(got, line), append(want, line)
			pos.Index++
			for _, o := range d.Observe(pos, eventOf(t, line), []byte(line)) {
				last = o.ID
				got = append(got, show(o))
				checkOffence(t, o, pos)
			}
		}
	}
	if diff := cmp.Diff(strings.Join(want, "\n"), strings.Join(got, "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func show(o event.Offence) string {
	s := []string{"=>", o.Rule, strconv.Itoa(o.Count), o.First.Format("15:04:05.999"), o.Last.Format("15:04:05.999")}
	if len(o.Logins) > 0 {
		s = append(s, "logins")
	}
	for _, l := range o.Logins {
		s = append(s, l.String())
	}
	return strings.Join(s, " ")
}

// checkOffence holds what must be so of any offence.
func checkOffence(t *testing.T, o event.Offence, pos event.Position) {
	t.Helper()
	sum := 0
	for _, p := range o.Proof {
		sum += p.Event.Attempts
		if p.Event.Time.Before(o.First) || p.Event.Time.After(o.Last) || p.Line == "" {
			t.Errorf("proof %+v outside of %s to %s", p, o.First, o.Last)
		}
		if o.Source.IsValid() && !o.Source.Contains(p.Event.Source) || o.Host != p.Event.Host || o.Account != "" && o.Account != p.Event.Account {
			t.Errorf("proof %+v of another group than %+v", p.Event, o)
		}
	}
	if sum != o.Count || o.Line != pos || len(o.ID) != 16 || o.Last.Sub(o.First) > 2*time.Minute || o.Service != event.SSH {
		t.Errorf("proof of %d guesses for %+v at %s", sum, o, pos)
	}
	if redirect := o.Rule == "ssh-bruteforce"; redirect != (o.Action == event.ActionRedirect) || redirect != (o.TTL == 24*time.Hour) || redirect != o.Source.IsValid() {
		t.Errorf("%+v", o)
	}
}

// eventOf reads a line of testdata/windows.
func eventOf(t *testing.T, line string) event.Event {
	t.Helper()
	fields := strings.Fields(line)
	at, err := time.Parse("15:04:05.999", fields[0])
	if err != nil {
		t.Fatal(err)
	}
	e := event.Event{
		Service: event.SSH, Kind: event.AuthFailed, Method: "password", Attempts: 1, Host: "web",
		Time: time.Date(2026, 11, 22, at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), time.UTC), SourcePort: 4022,
	}
	if peer, err := netip.ParseAddrPort(fields[1]); err == nil {
		e.Source, e.SourcePort = peer.Addr(), peer.Port()
	} else if fields[1] != "-" {
		e.Source = netip.MustParseAddr(fields[1])
	}
	if fields[2] != "-" {
		e.Account = fields[2]
	}
	for _, f := range fields[3:] {
		switch {
		case f == "ok":
			e.Kind, e.Attempts = event.AuthOK, 0
		case f == "closed":
			e.Kind, e.Attempts, e.Closed = event.Context, 0, true
		case f == "probe":
			e.Kind, e.Attempts = event.Probe, 0
		case strings.HasPrefix(f, "@"):
			e.Host = f[1:]
		case strings.HasPrefix(f, "x"):
			e.Attempts, err = strconv.Atoi(f[1:])
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return e
}

// twoRules are simple ones, for what does not depend on the rules as shipped.
func twoRules() detect.Rules {
	data, err := os.ReadFile("testdata/rules/two.yaml")
	if err != nil {
		panic(err)
	}
	rules, err := detect.ParseRules("two.yaml", data)
	if err != nil {
		panic(err)
	}
	return rules
}

// guess is a failed password at a time in seconds.
func guess(source, account string, seconds float64) event.Event {
	return event.Event{
		Service: event.SSH, Kind: event.AuthFailed, Method: "password", Attempts: 1, Host: "web", Account: account,
		Source: netip.MustParseAddr(source), SourcePort: 4022,
		Time: time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second))),
	}
}

func TestOffenceIDIsDeterministic(t *testing.T) {
	t.Parallel()
	fire := func(from uint64) string {
		d := detect.New(detect.Options{Rules: twoRules()})
		for i := range uint64(5) {
			for _, o := range d.Observe(event.Position{Sequence: from + i}, guess("203.0.113.66", strconv.FormatUint(i, 10), float64(i)), []byte("x")) {
				return o.ID
			}
		}
		return ""
	}
	if a, b, c := fire(1), fire(1), fire(2); a == "" || a != b || a == c {
		t.Errorf("%s %s %s", a, b, c)
	}
}

func TestSeenBeforeIsIgnored(t *testing.T) {
	t.Parallel()
	d := detect.New(detect.Options{Rules: twoRules()})
	at := func(seq uint64, i int) event.Position { return event.Position{Sequence: seq, Index: i} }
	for range 9 {
		if o := d.Observe(at(5000, 3), guess("203.0.113.66", "a", 0), nil); o != nil {
			t.Fatalf("one event fired %+v", o)
		}
	}
	d.Observe(at(5000, 2), guess("203.0.113.66", "b", 0), nil)
	d.Observe(at(4500, 9), guess("203.0.113.66", "c", 0), nil)
	if s := d.Stats(); s.Replayed != 10 || s.Counted != 2 {
		t.Errorf("%+v", s)
	}
	// A stream that began anew is not taken for a replay.
	for i := range uint64(4) {
		if o := d.Observe(at(1+i, 0), guess("203.0.113.66", "d", 1), nil); (o != nil) != (i == 3) {
			t.Errorf("event %d: %+v", i, o)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	long := []byte(strings.Repeat("x", 64<<10))
	rules := twoRules()
	rules.Rules = rules.Rules[:1]
	source := func(i int) string {
		return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()
	}
	t.Run("groups", func(t *testing.T) {
		t.Parallel()
		d := detect.New(detect.Options{Rules: rules, MaxGroups: 100})
		for i := range 1000 {
			d.Observe(event.Position{Sequence: uint64(i + 1)}, guess(source(i), "a", 0), long)
		}
		if s := d.Stats(); s.Groups != 100 || s.Evicted != 900 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("bytes", func(t *testing.T) {
		t.Parallel()
		d := detect.New(detect.Options{Rules: rules, MaxBytes: 64 << 10})
		for i := range 1000 {
			d.Observe(event.Position{Sequence: uint64(i + 1)}, guess(source(i), "a", 0), long)
		}
		if s := d.Stats(); s.Bytes > 64<<10 || s.Groups < 20 || s.Groups+int(s.Evicted) != 1000 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("obsolete groups", func(t *testing.T) {
		t.Parallel()
		d := detect.New(detect.Options{Rules: rules})
		for i := range 1000 {
			d.Observe(event.Position{Sequence: uint64(i + 1)}, guess(source(i), "a", float64(i*10)), nil)
		}
		if s := d.Stats(); s.Groups > 20 || s.Evicted != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("open offences", func(t *testing.T) {
		t.Parallel()
		d := detect.New(detect.Options{Rules: rules, MaxOpen: 10})
		fired := 0
		for i := range 100 {
			e := guess(source(i), "a", 0)
			e.Attempts = 5
			fired += len(d.Observe(event.Position{Sequence: uint64(i + 1)}, e, nil))
		}
		if s := d.Stats(); s.Open != 10 || s.EvictedOpen != 90 || fired != 100 || len(d.Open()) != 10 {
			t.Errorf("%d fired, %+v", fired, s)
		}
	})
	t.Run("logins", func(t *testing.T) {
		t.Parallel()
		d := detect.New(detect.Options{Rules: rules, MaxLogins: 100})
		for i := range 1000 {
			e := guess(source(i%7), "a", 0)
			e.Kind, e.Attempts, e.SourcePort = event.AuthOK, 0, uint16(i)+1
			d.Observe(event.Position{Sequence: uint64(i + 1)}, e, nil)
		}
		if s := d.Stats(); s.Logins > 100 || s.Logins == 0 || s.Logins+int(s.EvictedLogins) != 1000 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("proof", func(t *testing.T) {
		t.Parallel()
		many := rules
		many.Rules = []detect.Rule{rules.Rules[0]}
		many.Rules[0].Count = 500
		many.Rules[0].Within = time.Hour
		d := detect.New(detect.Options{Rules: many})
		var fired []event.Offence
		for i := range 500 {
			fired = append(fired, d.Observe(event.Position{Sequence: uint64(i + 1)}, guess("203.0.113.66", "a", float64(i)), long)...)
		}
		if len(fired) != 1 || fired[0].Count != 500 || len(fired[0].Proof) != 9 || len(fired[0].Proof[0].Line) != 512 || fired[0].Proof[8].Event.Attempts < 50 {
			t.Errorf("%d offences", len(fired))
		}
	})
}

func TestCloseGroup(t *testing.T) {
	t.Parallel()
	d := detect.New(detect.Options{Rules: twoRules()})
	e := guess("203.0.113.66", "a", 0)
	e.Attempts = 5
	if n := len(d.Observe(event.Position{Sequence: 1}, e, nil)); n != 2 {
		t.Fatalf("%d offences", n)
	}
	by := detect.Group{Source: netip.MustParsePrefix("203.0.113.66/32"), Host: "web"}
	if !d.CloseGroup("ssh-bruteforce", by) || d.CloseGroup("ssh-bruteforce", by) || d.CloseGroup("none", by) {
		t.Error("the offence was not open once")
	}
	if open := d.Open(); len(open) != 1 || open[0].Rule != "ssh-account-guessing" || open[0].Group.Account != "a" {
		t.Errorf("%+v", open)
	}
	if n := len(d.Observe(event.Position{Sequence: 2}, e, nil)); n != 1 {
		t.Errorf("%d offences after closing", n)
	}
}

// TestCloseContributor: who contributed to an offence is an offender of its own until its own redirect ends (an operator
// released it), and then, over a restart as well, becomes one again by failing anew as often as the rule says.
func TestCloseContributor(t *testing.T) {
	t.Parallel()
	rules, err := detect.ParseRules("many.yaml", []byte(`version: 1
rules:
  - {name: many, service: ssh, group_by: [account], distinct: source, count: 3, contributors: 2, within: 10m, scope: fleet, action: redirect, for: 1h}
`))
	if err != nil {
		t.Fatal(err)
	}
	d := detect.New(detect.Options{Rules: rules})
	seq := uint64(0)
	observe := func(source string) (of []event.Offence) {
		seq++
		for _, o := range d.Observe(event.Position{Sequence: seq}, guess(source, "root", float64(seq)), nil) {
			if o.Contributor {
				of = append(of, o)
			}
		}
		return of
	}
	first := map[string]event.Offence{}
	for _, source := range []string{"203.0.113.1", "203.0.113.2", "203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.3"} {
		for _, o := range observe(source) {
			first[o.Source.Addr().String()] = o
		}
	}
	if len(first) != 3 || len(d.Open()) != 4 {
		t.Fatalf("%d offenders, open: %+v", len(first), d.Open())
	}
	if len(observe("203.0.113.1"))+len(observe("203.0.113.1")) != 0 {
		t.Error("an open offence fires again")
	}
	closing := first["203.0.113.1"].ID
	if !d.Close(closing) || d.Close(closing) {
		t.Error("the contributor's offence was not open once")
	}
	restored := detect.New(detect.Options{Rules: rules})
	snapshot, err := d.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := restored.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.Open(), restored.Open()) || len(d.Open()) != 3 {
		t.Errorf("open %+v, restored %+v", d.Open(), restored.Open())
	}
	d = restored
	if got := observe("203.0.113.1"); len(got) != 0 {
		t.Errorf("what was counted before counts again: %+v", got)
	}
	got := observe("203.0.113.1")
	if len(got) != 1 || got[0].ID == closing || got[0].Source.Addr().String() != "203.0.113.1" {
		t.Errorf("it is no offender again: %+v", got)
	}
	if len(observe("203.0.113.2"))+len(observe("203.0.113.2")) != 0 {
		t.Error("the others' offences were closed, too")
	}
	if !d.Close(first["203.0.113.2"].ID) {
		t.Error("the other's offence is not open any more")
	}
	for _, o := range d.Open() {
		d.Close(o.ID)
	}
	if open := d.Open(); len(open) != 0 {
		t.Errorf("still open: %+v", open)
	}
}

func TestLoginsOfASource(t *testing.T) {
	t.Parallel()
	d := detect.New(detect.Options{Rules: twoRules()})
	e := guess("203.0.113.66", "alice", 0)
	e.Kind, e.Attempts = event.AuthOK, 0
	d.Observe(event.Position{Sequence: 1}, e, nil)
	want := []netip.AddrPort{netip.MustParseAddrPort("203.0.113.66:4022")}
	if diff := cmp.Diff(want, d.Logins("web", event.SSH, netip.MustParsePrefix("203.0.113.66/32")), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if got := d.Logins("mail", event.SSH, netip.MustParsePrefix("203.0.113.66/32")); got != nil {
		t.Errorf("%v", got)
	}
}
