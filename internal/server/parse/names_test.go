package parse_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// TestRawNames: what lines of a log with raw names say of guesses and of their sources.
func TestRawNames(t *testing.T) {
	t.Parallel()
	const a, b, evil = "203.0.113.66", "203.0.113.67", "198.51.100.9"
	denied := func(id int, user, host string) string {
		return fmt.Sprintf("2026-11-22 18:00:00 %d [Warning] Access denied for user '%s'@'%s' (using password: YES)", id, user, host)
	}
	noise := "2026-11-22 18:00:00 0 [Note] InnoDB: Buffer pool(s) load completed at 261122 18:00:00, and whatever else a server has to say of its pools and files"
	for _, c := range []struct {
		name    string
		lines   []string
		guesses int
		sourced map[string]int
	}{
		{"the first guess of a source is not yet sure", []string{denied(1, "root", a), denied(2, "root", a), denied(3, "root", a)}, 3, map[string]int{a: 2}},
		{"other lines make it sure too", []string{denied(1, "root", a), noise, denied(2, "root", a)}, 2, map[string]int{a: 1}},
		{"the last of two sources in turn may have invented the other", []string{denied(1, "root", a), denied(2, "root", b), denied(3, "root", a), denied(4, "root", b)}, 4, nil},
		{"sources in turn, not next to each other", []string{denied(1, "root", a), noise, denied(2, "root", b), noise, denied(3, "root", a), noise, denied(4, "root", b)}, 4, map[string]int{a: 1, b: 1}},
		{"an invented line, and its true end", []string{denied(1, "a", evil), denied(2, "root", a), noise, denied(3, "a", evil), denied(4, "root", a)}, 4, map[string]int{a: 1}},
		{"one who did fail once can't be blamed twice", []string{denied(1, "shop", b), noise, denied(2, "a", b), denied(3, "root", a), noise, denied(4, "a", b), denied(5, "root", a)}, 5, map[string]int{a: 1, b: 1}},
		{"a name that goes on", []string{"2026-11-22 18:00:00 1 [Warning] Access denied for user 'x", denied(31, "r", evil) + "'@'" + a + "' (using password: YES)"}, 1, nil},
		{"a tail without a beginning", []string{"x'@'" + evil + "' (using password: YES)"}, 0, nil},
		{"an honest guess behind a long name", []string{"2026-11-22 18:00:00 1 [Warning] Access denied for user 'x", "y'@'" + a + "' (using password: YES)", noise, denied(2, "root", a), denied(3, "root", a)}, 3, map[string]int{a: 1}},
		{"MySQL 8 writes a message in one line", []string{
			"2026-11-22T18:00:00.1Z 1 [Note] [MY-010926] [Server] Access denied for user 'root'@'" + a + "' (using password: YES)",
		}, 1, map[string]int{a: 1}},
		{"but not where MariaDB was heard", []string{
			denied(1, "root", b), noise,
			"2026-11-22T18:00:00.1Z 1 [Note] [MY-010926] [Server] Access denied for user 'root'@'" + evil + "' (using password: YES)",
		}, 2, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var p parse.Parser
			guesses, sourced := 0, map[string]int{}
			for _, l := range c.lines {
				e := p.Line([]byte("2026-11-22T18:00:00Z web mariadbd[7]: "+l), time.Time{})
				guesses += e.Attempts
				if e.Kind == event.AuthFailed && e.Source.IsValid() {
					sourced[e.Source.String()] += e.Attempts
				}
			}
			if guesses != c.guesses || fmt.Sprint(sourced) != fmt.Sprint(c.sourced) {
				t.Errorf("read %d guesses, %v; want %d, %v:\n%s", guesses, sourced, c.guesses, c.sourced, strings.Join(c.lines, "\n"))
			}
		})
	}
}

// TestJoins: an address that one line states is that of the process's other lines.
func TestJoins(t *testing.T) {
	t.Parallel()
	const (
		opened      = "LOG:  connection received: host=203.0.113.66 port=4022"
		openedOther = "LOG:  connection received: host=198.51.100.9 port=1"
		openedName  = "LOG:  connection received: host=evil.example port=1"
		failed      = `FATAL:  password authentication failed for user "alice"`
		passed      = "LOG:  connection authorized: user=alice database=shop"
		closed      = "LOG:  disconnection: session time: 0:00:00.1 user=alice database=shop host=203.0.113.66 port=4022"
	)
	source := netip.MustParseAddr("203.0.113.66")
	for _, c := range []struct {
		name  string
		lines []string // "CLOCK [PID] TEXT"
		want  netip.Addr
		port  uint16
	}{
		{"failed", []string{"18:00:00 [1] " + opened, "18:00:01 [1] " + failed}, source, 4022},
		{"another process", []string{"18:00:00 [1] " + opened, "18:00:01 [2] " + failed}, netip.Addr{}, 0},
		{"another connection of the same number", []string{"18:00:00 [1] " + opened, "18:00:01 [1] " + failed, "18:00:02 [1] " + failed}, netip.Addr{}, 0},
		{"much later", []string{"18:00:00 [1] " + opened, "18:30:00 [1] " + failed}, netip.Addr{}, 0},
		{"got in before", []string{"18:00:00 [1] " + opened, "18:00:01 [1] " + passed, "18:00:02 [1] " + failed}, netip.Addr{}, 0},
		{"closed before", []string{"18:00:00 [1] " + opened, "18:00:01 [1] " + closed, "18:00:02 [1] " + failed}, netip.Addr{}, 0},
		{"two addresses", []string{"18:00:00 [1] " + opened, "18:00:00 [1] " + openedOther, "18:00:01 [1] " + failed}, netip.Addr{}, 0},
		{"one who got in says that another came", []string{"18:00:00 [1] " + opened, "18:00:01 [1] " + passed, "18:00:02 [1] " + openedOther, "18:00:03 [1] " + failed}, netip.Addr{}, 0},
		{"a name", []string{"18:00:00 [1] " + openedName, "18:00:01 [1] " + failed}, netip.Addr{}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var p parse.Parser
			var last event.Event
			for i, l := range c.lines {
				clock, rest, _ := strings.Cut(l, " ")
				pid, msg, _ := strings.Cut(rest, " ")
				last = p.Line(fmt.Appendf(nil, "2026-11-22T%sZ web postgres%s: [%d-1] %s", clock, pid, i+1, msg), time.Time{})
			}
			if last.Kind != event.AuthFailed || last.Source != c.want || last.SourcePort != c.port {
				t.Errorf("read %+v, want source %s", last, c.want)
			}
		})
	}
}

// TestJoinsAreBounded: whoever opens many connections neither fills the memory nor hides one who guesses meanwhile.
func TestJoinsAreBounded(t *testing.T) {
	t.Parallel()
	var p parse.Parser
	at := func(pid int, msg string) event.Event {
		return p.Line(fmt.Appendf(nil, "2026-11-22T18:00:00Z web postgres[%d]: [1-1] %s", pid, msg), time.Time{})
	}
	for pid := range 100_000 {
		at(pid, "LOG:  connection received: host=198.51.100.9 port=1")
		if pid%1000 == 0 {
			at(200_000+pid, "LOG:  connection received: host=203.0.113.66 port=4022")
		}
		if pid%1000 == 999 {
			if e := at(200_000+pid-999, `FATAL:  password authentication failed for user "alice"`); e.Source != netip.MustParseAddr("203.0.113.66") {
				t.Fatalf("read %+v", e)
			}
		}
	}
}
