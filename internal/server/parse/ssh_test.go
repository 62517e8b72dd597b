package parse_test

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

var sameAddr = cmpopts.EquateComparable(netip.Addr{})

func textLines(t testing.TB, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // read only
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return lines
}

// want reads the right side of a case in testdata/lines.
func want(t *testing.T, text string) event.Event {
	t.Helper()
	e := event.Event{Service: event.SSH}
	if head, quoted, ok := strings.Cut(text, `account="`); ok {
		name, rest, _ := strings.Cut(quoted, `"`)
		e.Account = name
		text = head + rest
	}
	for i, w := range strings.Fields(text) {
		key, value, isPair := strings.Cut(w, "=")
		switch {
		case i == 0:
			e.Kind = event.Kind(w)
		case w == "closed":
			e.Closed = true
		case isPair && key == "account":
			e.Account = value
		case isPair && key == "method":
			e.Method = value
		case isPair && key == "attempts":
			e.Attempts, _ = strconv.Atoi(value)
		case i == 1 && w != "-":
			e.Source = netip.MustParseAddr(w)
		case i == 2:
			port, err := strconv.ParseUint(w, 10, 16)
			if err != nil {
				t.Fatalf("bad port %q in %q", w, text)
			}
			e.SourcePort = uint16(port)
		}
	}
	return e
}

func TestMessagesOfSSH(t *testing.T) {
	t.Parallel()
	count := 0
	for n, line := range textLines(t, "testdata/lines/ssh.txt") {
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		msg, right, ok := strings.Cut(line, " => ")
		if !ok {
			t.Fatalf("line %d has no =>", n+1)
		}
		count++
		t.Run(fmt.Sprintf("line %d", n+1), func(t *testing.T) {
			t.Parallel()
			w := want(t, right)
			got := parse.Message(event.SSH, []byte(msg))
			if diff := cmp.Diff(w, got, sameAddr); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", msg, diff)
			}
			var p parse.Parser
			if again := p.Message(event.SSH, []byte(msg)); again != got {
				t.Errorf("Parser.Message differs: %+v", again)
			}
			w.Host, w.Time = "web", time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
			for _, tag := range []string{"sshd", "sshd-session", "sshd-auth"} {
				full := parse.Line([]byte("2026-11-22T18:00:00+00:00 web "+tag+"[1]: "+msg), time.Time{})
				if diff := cmp.Diff(w, full, sameAddr); diff != "" {
					t.Errorf("%s, whole line (-want +got):\n%s", tag, diff)
				}
			}
		})
	}
	if count < 100 {
		t.Errorf("only %d cases read", count)
	}
}

// TestRealServers holds what real servers wrote against what their client knows that it did.
func TestRealServers(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/sshd/*.txt")
	if err != nil || len(files) < 3 {
		t.Fatalf("files of at least 3 versions wanted: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			sections := sectionsOf(t, file)
			if len(sections) < 150 {
				t.Fatalf("only %d sections", len(sections))
			}
			for _, s := range sections {
				s.check(t)
			}
		})
	}
}

type section struct {
	title           string
	source          netip.Addr
	guesses, logins int
	lines           []string
}

func sectionsOf(t *testing.T, file string) []section {
	t.Helper()
	var list []section
	for _, line := range textLines(t, file) {
		switch {
		case strings.HasPrefix(line, "## "):
			parts := strings.Split(line, " | ")
			n := len(parts)
			s := section{title: strings.Join(parts[:n-3], " | ")}
			s.source = netip.MustParseAddr(strings.TrimPrefix(parts[n-3], "source "))
			if _, err := fmt.Sscanf(parts[n-2]+" "+parts[n-1], "guesses %d logins %d", &s.guesses, &s.logins); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			list = append(list, s)
		case strings.HasPrefix(line, "# ") || len(list) == 0:
		default:
			list[len(list)-1].lines = append(list[len(list)-1].lines, line)
		}
	}
	return list
}

func (s section) check(t *testing.T) {
	t.Helper()
	ref := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	guesses, logins := 0, 0
	var p parse.Parser
	for _, line := range s.lines {
		e := p.Line([]byte(line), ref)
		if e.Host != "web" || e.Time.IsZero() {
			t.Errorf("%s: header not read: %s", s.title, line)
		}
		if e.Source.IsValid() && e.Source != s.source {
			t.Errorf("%s: blames %s: %s", s.title, e.Source, line)
		}
		switch e.Kind {
		case event.AuthFailed:
			guesses += e.Attempts
			if e.Source != s.source || e.SourcePort == 0 && e.Method != "keyboard-interactive/pam" {
				t.Errorf("%s: guess without its source: %s", s.title, line)
			}
		case event.AuthOK:
			logins++
			if e.Source != s.source || e.SourcePort == 0 || e.Account != "alice" {
				t.Errorf("%s: login read as %+v: %s", s.title, e, line)
			}
		case event.None:
			if e.Service == event.SSH && !idle(line) {
				t.Errorf("%s: not understood: %s", s.title, line)
			}
		case event.Probe, event.Context:
		}
	}
	if guesses != s.guesses || logins != s.logins {
		t.Errorf("%s: read %d guesses and %d logins, made %d and %d:\n%s",
			s.title, guesses, logins, s.guesses, s.logins, strings.Join(s.lines, "\n"))
	}
}

// idle says whether a line of sshd is about no attempt.
func idle(line string) bool {
	for _, text := range []string{"Server listening", "User child is on pid", "Received signal", "Transferred:"} {
		if strings.Contains(line, "]: "+text) || strings.Contains(line, "]: error: "+text) {
			return true
		}
	}
	return false
}
