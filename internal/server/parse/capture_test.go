package parse_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// scene is a section of a file that testdata/capture made: what a client did, and what the server wrote of it.
type scene struct {
	server, title           string
	source                  netip.Addr
	guesses, logins, probes int
	lines                   []markedLine
}

// markedLine is a line with the log that it stood in.
type markedLine struct{ log, text string }

// scenesOf reads captured files. Their lines hold whatever a client sent, but no line feed that is not the server's.
func scenesOf(t *testing.T, folder string, files, scenes int) []scene {
	t.Helper()
	names, err := filepath.Glob("testdata/" + folder + "/*.txt")
	if err != nil || len(names) < files {
		t.Fatalf("%d files of %s wanted: %v, %v", files, folder, names, err)
	}
	var list []scene
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		server := strings.Split(filepath.Base(name), "-")[1]
		for line := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n"), "\n") {
			if title, ok := strings.CutPrefix(line, "## "); ok {
				parts := strings.Split(title, " | ")
				n := len(parts)
				s := scene{server: server, title: filepath.Base(name) + ": " + strings.Join(parts[:n-4], " | ")}
				s.source = netip.MustParseAddr(strings.TrimPrefix(parts[n-4], "source "))
				if _, err := fmt.Sscanf(strings.Join(parts[n-3:], " "), "guesses %d logins %d probes %d", &s.guesses, &s.logins, &s.probes); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				list = append(list, s)
				continue
			}
			if mark, text, ok := strings.Cut(line, "|"); ok && len(list) > 0 && !strings.HasPrefix(line, "# ") {
				list[len(list)-1].lines = append(list[len(list)-1].lines, markedLine{mark, text})
			}
		}
	}
	if len(list) < scenes {
		t.Fatalf("only %d scenes of %s", len(list), folder)
	}
	return list
}

// only are the lines of some logs, in that order of logs.
func (s *scene) only(logs ...string) []markedLine {
	var list []markedLine
	for _, log := range logs {
		for _, l := range s.lines {
			if l.log == log {
				list = append(list, l)
			}
		}
	}
	return list
}

// asSyslog are lines as the server gets them: those of the software's own files as an agent converts them.
func asSyslog(t *testing.T, lines []markedLine, format map[string]string) [][]byte {
	t.Helper()
	var out [][]byte
	readers := map[string]native.Reader{}
	add := func(log string, records []native.Record) {
		f, _ := native.Find(format[log])
		for _, r := range records {
			out = append(out, native.Encode(r, "web", f.App))
		}
	}
	for _, l := range lines {
		if l.log == "syslog" {
			out = append(out, []byte(l.text))
			continue
		}
		if readers[l.log] == nil {
			f, ok := native.Find(format[l.log])
			if !ok {
				t.Fatalf("no format for the log %s", l.log)
			}
			readers[l.log] = f.New()
		}
		add(l.log, readers[l.log].Line([]byte(l.text), capturedAt()))
	}
	for log, r := range readers {
		add(log, r.Flush())
	}
	return out
}

// tally is what lines said.
type tally struct {
	guesses, logins, probes, forms int
	unsourced                      int // guesses without a source
}

// read reads lines of one host as the server does, and holds that nobody but the scene's source is blamed.
func (s *scene) read(t *testing.T, lines [][]byte) tally {
	t.Helper()
	var p parse.Parser
	var sum tally
	for _, line := range lines {
		e := p.Line(line, capturedAt())
		if e.Source.IsValid() && e.Source != s.source {
			t.Errorf("%s: blames %s: %s", s.title, e.Source, line)
		}
		if e.Kind != event.None && (e.Host != "web" || e.Time.IsZero() || e.Time.Year() != 2026) {
			t.Errorf("%s: header of %s read as %s at %s", s.title, line, e.Host, e.Time)
		}
		switch e.Kind {
		case event.AuthFailed:
			sum.guesses += e.Attempts
			if !e.Source.IsValid() {
				sum.unsourced += e.Attempts
			}
			if e.Method == "form" {
				sum.forms++
			}
		case event.AuthOK:
			sum.logins++
			if e.Source != s.source && !strings.HasSuffix(s.title, ": a name") {
				t.Errorf("%s: login without its source: %s", s.title, line)
			}
		case event.Probe:
			sum.probes++
		case event.Context, event.None:
		}
	}
	return sum
}

// expect compares, and shows the lines where they differ.
func (s *scene) expect(t *testing.T, road string, got, want tally, lines [][]byte) {
	t.Helper()
	if got != want {
		t.Errorf("%s, %s: read %+v, made %+v:\n%s", s.title, road, got, want, bytes.Join(lines, []byte("\n")))
	}
}
