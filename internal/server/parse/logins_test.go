package parse_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// TestMessagesOfLogins reads messages of every version and build by their tags.
func TestMessagesOfLogins(t *testing.T) {
	t.Parallel()
	count := 0
	for i, line := range textLines(t, "testdata/lines/logins.txt") {
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		left, right, ok := strings.Cut(line, " => ")
		tag, msg, ok2 := strings.Cut(left, ": ")
		service, right, ok3 := strings.Cut(right, " ")
		if !ok || !ok2 || !ok3 {
			t.Fatalf("line %d has another form", i+1)
		}
		count++
		t.Run(fmt.Sprintf("line %d", i+1), func(t *testing.T) {
			t.Parallel()
			w := want(t, right)
			w.Service, w.Host, w.Time = event.Service(strings.Trim(service, "-")), "web", at("2026-11-22T18:00:00Z")
			got := parse.Line([]byte("2026-11-22T18:00:00+00:00 web "+tag+"[1]: "+msg), time.Time{})
			if diff := cmp.Diff(w, got, sameAddr); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", msg, diff)
			}
		})
	}
	if count < 100 {
		t.Errorf("only %d cases read", count)
	}
}

// TestRealLogins holds what real dropbear, login(1), Dovecot and Postfix wrote against what their client knows that it did.
func TestRealLogins(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		folder   string
		service  event.Service
		sections int
	}{
		{"dropbear", event.SSH, 30}, {"login", event.Telnet, 20}, {"dovecot", event.IMAP, 25}, {"postfix", event.SMTP, 40},
	} {
		files, err := filepath.Glob("testdata/" + c.folder + "/*.txt")
		if err != nil || len(files) != 3 {
			t.Fatalf("files of 3 versions wanted in %s: %v, %v", c.folder, files, err)
		}
		for _, file := range files {
			t.Run(c.folder+"/"+filepath.Base(file), func(t *testing.T) {
				t.Parallel()
				sections := sectionsOf(t, file)
				if len(sections) < c.sections {
					t.Fatalf("only %d sections", len(sections))
				}
				for _, s := range sections {
					s.checkLogins(t, c.service)
				}
			})
		}
	}
}

// unstatedLogin says whether a login is one that the log can't tell of with an address: login(1) states only root's, and,
// by its process number, those after a failure; util-linux' login writes no process number.
func (s section) unstatedLogin(service event.Service) bool {
	return service == event.Telnet && !strings.Contains(s.title, "root gets in")
}

func (s section) checkLogins(t *testing.T, service event.Service) {
	t.Helper()
	ref := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	named := strings.HasPrefix(s.title, "## no address")
	guesses, logins := 0, 0
	var p parse.Parser
	for _, line := range s.lines {
		e, n := p.Read([]byte(line), ref)
		if e.Host != "web" || e.Time.IsZero() {
			t.Errorf("%s: header not read: %s", s.title, line)
		}
		if e.Source.IsValid() && e.Source != s.source {
			t.Errorf("%s: blames %s: %s", s.title, e.Source, line)
		}
		switch e.Kind {
		case event.AuthFailed:
			guesses += e.Attempts
			if e.Service != service || (e.Source != s.source) != named || n.NoAddress != named {
				t.Errorf("%s: guess of %s without its source: %s", s.title, e.Service, line)
			}
		case event.AuthOK:
			logins++
			if e.Source != s.source || e.Service != service || e.Account != "alice" && service != event.Telnet {
				t.Errorf("%s: login read as %+v: %s", s.title, e, line)
			}
		case event.None:
			if n.Unknown && !idleLogin(line) {
				t.Errorf("%s: not understood: %s", s.title, line)
			}
		case event.Probe, event.Context:
		}
	}
	if s.unstatedLogin(service) && logins < s.logins {
		logins = s.logins
	}
	if guesses != s.guesses || logins != s.logins {
		t.Errorf("%s: read %d guesses and %d logins, made %d and %d:\n%s",
			s.title, guesses, logins, s.guesses, s.logins, strings.Join(s.lines, "\n"))
	}
}

// idleLogin says whether a line is about no attempt: what Dovecot says of sessions and of itself.
func idleLogin(line string) bool {
	for _, text := range []string{"dovecot: imap(", "dovecot: pop3(", "dovecot: master: ", "dovecot: stats: ", "dovecot: log: "} {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}
