package parse_test

import (
	"strings"
	"testing"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// httpFormatsOf are the formats of a server's logs.
func httpFormatsOf(server string) map[string]string {
	return map[string]string{"access": server + "-access", "error": server + "-error"}
}

// TestRealWebServers holds what real servers wrote against what their clients know that they did: by either log, and by
// both in any order, each guess counts once.
func TestRealWebServers(t *testing.T) {
	t.Parallel()
	for _, s := range scenesOf(t, "http", 6, 600) {
		want := tally{guesses: s.guesses, logins: s.logins, probes: s.probes}
		byAccess := want
		switch {
		case strings.Contains(s.title, `hostile user "198.51.100.9 - root"`):
			byAccess.guesses = 0 // the name might be a virtual host's, and the peer after it
			if s.server == "nginx" {
				want.guesses = 0
			}
		case strings.HasSuffix(s.title, ": exploit in a header") && s.server == "apache" && len(s.only("syslog")) > 0:
			want.probes = 0 // the format common has no headers
		case strings.HasSuffix(s.title, ": a name"):
			byAccess.unsourced = s.guesses
		case strings.HasSuffix(s.title, ": a name that is an address"):
			continue // see TestNamesOfPeers
		case strings.HasSuffix(s.title, ": right password, wrong group") && len(s.only("syslog")) == 0:
			s.wrongGroup(t)
			continue
		}
		formats := httpFormatsOf(s.server)
		if syslog := s.only("syslog"); len(syslog) > 0 {
			lines := asSyslog(t, syslog, formats)
			got := s.read(t, lines)
			got.forms = 0
			s.expect(t, "syslog", got, want, lines)
			continue
		}
		access, failed := s.only("access"), s.only("error")
		lines := asSyslog(t, access, formats)
		got := s.read(t, lines)
		forms := got.forms
		got.forms = 0
		s.expect(t, "access log", got, byAccess, lines)
		if len(failed) == 0 {
			continue
		}
		for name, order := range map[string][]markedLine{"both": append(access, failed...), "both, errors first": s.only("error", "access")} {
			lines = asSyslog(t, order, formats)
			got = s.read(t, lines)
			got.forms = 0
			s.expect(t, name, got, want, lines)
		}
		lines = asSyslog(t, failed, formats)
		byErrors := tally{}
		if s.server == "apache" {
			byErrors.guesses = s.guesses - forms
		}
		s.expect(t, "error log", s.read(t, lines), byErrors, lines)
	}
}

// wrongGroup holds a request with the right password by somebody who is not let in: the access log can't tell it from a
// guess, the error log can.
func (s *scene) wrongGroup(t *testing.T) {
	t.Helper()
	formats := httpFormatsOf(s.server)
	for road, want := range map[string]int{"access": 1, "error": 0, "error access": 0} {
		lines := asSyslog(t, s.only(strings.Fields(road)...), formats)
		s.expect(t, road, s.read(t, lines), tally{guesses: want}, lines)
	}
}

// TestWholeLinesOfServers: a line means the same without a header, where only the service is known.
func TestWholeLinesOfServers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		folder  string
		service event.Service
	}{{"http", event.HTTP}, {"ftp", event.FTP}} {
		for _, s := range scenesOf(t, c.folder, 6, 300) {
			formats := httpFormatsOf(s.server)
			if c.service == event.FTP {
				formats = ftpFormatsOf(s.server)
			}
			if strings.Contains(s.title, "name that is an address") {
				continue
			}
			for _, l := range s.lines {
				if l.log == "syslog" || s.server == "pureftpd" {
					continue
				}
				bare := parse.Message(c.service, []byte(l.text))
				converted := asSyslog(t, []markedLine{l}, formats)
				if len(converted) != 1 {
					t.Fatalf("%s: %d records of %s", s.title, len(converted), l.text)
				}
				e := parse.Line(converted[0], capturedAt())
				if l.log == "error" && s.server == "nginx" && e.Kind == event.None {
					continue // may be a client's text
				}
				e.Host, e.Time = "", bare.Time
				if e != bare {
					t.Errorf("%s:\n%s\nis read as %+v\nconverted as %+v", s.title, l.text, bare, e)
				}
			}
		}
	}
}
