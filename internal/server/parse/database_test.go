package parse_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// capturedAt is after every captured line.
func capturedAt() time.Time { return time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC) }

// wantOf reads "kind [source|- [port]] [key=value]…" with values quoted or not, the right side of a case in testdata/lines.
func wantOf(t *testing.T, service event.Service, text string) event.Event {
	t.Helper()
	e := event.Event{Service: service}
	kind, rest, _ := strings.Cut(text, " ")
	e.Kind = event.Kind(kind)
	for rest != "" {
		w := rest
		if i := strings.Index(rest, `="`); i >= 0 && !strings.Contains(rest[:i], " ") {
			quoted, err := strconv.QuotedPrefix(rest[i+1:])
			if err != nil {
				t.Fatalf("%s: %v", rest, err)
			}
			w = rest[:i+1+len(quoted)]
		} else if i := strings.IndexByte(rest, ' '); i >= 0 {
			w = rest[:i]
		}
		rest = strings.TrimPrefix(rest[len(w):], " ")
		key, value, isPair := strings.Cut(w, "=")
		if unquoted, err := strconv.Unquote(value); err == nil {
			value = unquoted
		}
		switch {
		case w == "closed":
			e.Closed = true
		case key == "account":
			e.Account = value
		case key == "method":
			e.Method = value
		case key == "resource":
			e.Resource = value
		case key == "attempts":
			e.Attempts, _ = strconv.Atoi(value)
		case isPair:
			t.Fatalf("unknown key %s", key)
		case strings.ContainsAny(w, ".:"):
			e.Source = netip.MustParseAddr(w)
		case w != "-":
			port, err := strconv.ParseUint(w, 10, 16)
			if err != nil {
				t.Fatal(err)
			}
			e.SourcePort = uint16(port)
		}
	}
	return e
}

// TestDatabaseLines holds single messages against what they state; with a header they state the same.
func TestDatabaseLines(t *testing.T) {
	t.Parallel()
	for service, tag := range map[event.Service]string{event.MySQL: "mariadbd", event.Postgres: "postgres", event.Redis: "redis-server"} {
		t.Run(string(service), func(t *testing.T) {
			t.Parallel()
			count := 0
			for _, line := range textLines(t, "testdata/lines/"+string(service)+".txt") {
				msg, right, ok := strings.Cut(line, " => ")
				if !ok || strings.HasPrefix(line, "#") {
					continue
				}
				count++
				w := wantOf(t, service, right)
				if diff := cmp.Diff(w, parse.Message(service, []byte(msg)), sameAddr); diff != "" {
					t.Errorf("%s\n(-want +got):\n%s", msg, diff)
				}
				full := parse.Line([]byte("2026-11-22T18:00:00+00:00 web "+tag+"[1]: "+msg), time.Time{})
				if full.Kind != w.Kind || full.Attempts != w.Attempts || full.Source.IsValid() && full.Source != w.Source {
					t.Errorf("%s, whole line: %+v", msg, full)
				}
			}
			if count < 15 {
				t.Errorf("only %d cases read", count)
			}
		})
	}
}

// dbSection is what a client did, and what its server logged meanwhile.
type dbSection struct {
	title, set      string
	source          netip.Addr
	guesses, logins int
	lines           [][]byte
}

func (s dbSection) hostile() bool {
	return strings.Contains(s.title, "hostile") || strings.Contains(s.title, "of two lines")
}

func dbSections(t *testing.T, file string) []dbSection {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []dbSection
	set := ""
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := s.Text()
		switch {
		case strings.HasPrefix(line, "## "):
			parts := strings.Split(line, " | ")
			n := len(parts)
			one := dbSection{title: strings.Join(parts[:n-3], " | "), set: set}
			one.source = netip.MustParseAddr(strings.TrimPrefix(parts[n-3], "source "))
			if _, err := fmt.Sscanf(parts[n-2]+" "+parts[n-1], "guesses %d logins %d", &one.guesses, &one.logins); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			list = append(list, one)
		case strings.HasPrefix(line, "# "):
			set = line
		case len(list) > 0:
			list[len(list)-1].lines = append(list[len(list)-1].lines, []byte(line))
		}
	}
	return list
}

// TestRealDatabases holds what real servers wrote, by each road on which it can come, against what their clients know that
// they did: as many guesses, and no other source than theirs.
func TestRealDatabases(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/debian1[123]*.txt")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "-audit.txt") }) // no guesses: see TestRealAudit
	seen := make(map[string]int)
	for _, file := range files {
		dir, name := filepath.Base(filepath.Dir(file)), strings.TrimSuffix(filepath.Base(file), ".txt")
		_, variant, _ := strings.Cut(name, "-")
		var roads []road
		switch {
		case dir == "mysql":
			roads = []road{byFormat(native.MySQLError), byJournal("mariadbd")}
		case dir == "postgres" && variant == "csv":
			roads = []road{byFormat(native.PostgresCSV)}
		case dir == "postgres" && variant == "json":
			roads = []road{byFormat(native.PostgresJSON)}
		case dir == "postgres" && variant == "syslog":
			roads = []road{asItIs}
		case dir == "postgres":
			roads = []road{byFormat(native.PostgresStderr), byJournal("postgres")} // by the latter lines can't be joined
		default:
			continue
		}
		for i, r := range roads {
			seen[dir]++
			t.Run(fmt.Sprintf("%s/%s/%d", dir, name, i), func(t *testing.T) {
				t.Parallel()
				want := sourcesOnly
				switch {
				case variant == "csv" || variant == "json":
					want = allSourced
				case dir == "mysql" || i == 0:
					want = counted
				}
				checkSections(t, dbSections(t, file), r, want)
			})
		}
	}
	if seen["mysql"] < 6 || seen["postgres"] < 30 {
		t.Errorf("files of three versions by every road wanted, found %v", seen)
	}
}

// road turns the lines of a section into events.
type road func(t *testing.T) func(p *parse.Parser, lines [][]byte) []event.Event

func byFormat(name string) road {
	return func(t *testing.T) func(p *parse.Parser, lines [][]byte) []event.Event {
		t.Helper()
		f, ok := native.Find(name)
		if !ok {
			t.Fatal(name)
		}
		r := f.New()
		return func(p *parse.Parser, lines [][]byte) []event.Event {
			var out []event.Event
			take := func(list []native.Record) {
				for _, rec := range list {
					out = append(out, p.Line(native.Encode(rec, "web", f.App), capturedAt()))
				}
			}
			for _, l := range lines {
				take(r.Line(l, capturedAt()))
			}
			take(r.Flush())
			return out
		}
	}
}

func byJournal(tag string) road {
	return func(*testing.T) func(p *parse.Parser, lines [][]byte) []event.Event {
		return func(p *parse.Parser, lines [][]byte) []event.Event {
			var out []event.Event
			for _, l := range lines {
				out = append(out, p.Line(append([]byte("2026-11-25T22:00:00Z web "+tag+"[1]: "), l...), capturedAt()))
			}
			return out
		}
	}
}

func asItIs(*testing.T) func(p *parse.Parser, lines [][]byte) []event.Event {
	return func(p *parse.Parser, lines [][]byte) []event.Event {
		var out []event.Event
		for _, l := range lines {
			out = append(out, p.Line(l, capturedAt()))
		}
		return out
	}
}

// wanted is what a road can tell.
type wanted int

const (
	sourcesOnly wanted = iota // no source but the true one
	counted                   // and as many guesses as were made
	allSourced                // and each with its source
)

// alike is how many of a section's logins the server writes like a guess: a database is asked for by a name that looks like the rest
// of a denied user's. Such a line counts as a guess and blames nobody, since a guesser can write it too.
func (s dbSection) alike() int {
	if strings.HasSuffix(s.title, "login, hostile database") {
		return s.logins
	}
	return 0
}

func checkSections(t *testing.T, sections []dbSection, r road, want wanted) {
	t.Helper()
	if len(sections) < 40 {
		t.Fatalf("only %d sections", len(sections))
	}
	var p parse.Parser
	read := r(t)
	sourced, honest := 0, 0
	for _, s := range sections {
		guesses, logins := 0, 0
		for _, e := range read(&p, s.lines) {
			if e.Kind == event.AuthFailed && e.Source.IsValid() && s.alike() > 0 {
				t.Errorf("%s: %s: blames somebody: %+v", s.set, s.title, e)
			}
			if e.Source.IsValid() && e.Source != s.source {
				t.Errorf("%s: %s: blames %s: %+v", s.set, s.title, e.Source, e)
			}
			switch e.Kind { //nolint:exhaustive // the others are no attempts
			case event.AuthFailed:
				guesses += e.Attempts
				if !s.hostile() {
					honest++
				}
				if e.Source.IsValid() && !s.hostile() {
					sourced++
				} else if want == allSourced && !e.Source.IsValid() {
					t.Errorf("%s: guess without a source: %+v", s.title, e)
				}
			case event.AuthOK:
				logins++
				if want == allSourced && !e.Source.IsValid() {
					t.Errorf("%s: login without a source: %+v", s.title, e)
				}
			}
		}
		if want == sourcesOnly {
			continue
		}
		if s.hostile() && strings.Contains(s.set, "prefix = '%q%u@%d '") {
			logins = 0 // a name may say that it got in, in a line of its own; no source is given for that
		}
		if guesses != s.guesses+s.alike() || logins != s.logins && logins != 0 {
			t.Errorf("%s: %s: read %d guesses and %d logins, made %d and %d:\n%s", s.set, s.title, guesses, logins, s.guesses, s.logins, bytes.Join(s.lines, []byte("\n")))
		}
	}
	t.Logf("%d of %d honest guesses have their source", sourced, honest)
}

// TestRealRedis holds the ACL LOG of real servers against what their clients did: the last of the folded times has its
// source, and of the rest it is only known that they were.
func TestRealRedis(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/redis/*-acl.txt")
	if err != nil || len(files) < 3 {
		t.Fatalf("three versions wanted: %v %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			sections := dbSections(t, file)
			if len(sections) < 25 {
				t.Fatalf("only %d sections", len(sections))
			}
			for _, s := range sections {
				guesses, sourced := 0, 0
				for _, entry := range aclEntries(t, string(bytes.Join(s.lines, []byte("\n")))) {
					for _, r := range entry.Records(entry.Count, capturedAt()) {
						e := parse.Line(native.Encode(r, "web", native.RedisACLApp), capturedAt())
						if e.Kind != event.AuthFailed || e.Service != event.Redis || e.Host != "web" || e.Account != strings.ReplaceAll(entry.Username, "\n", "#012") {
							t.Errorf("%s: read %+v", s.title, e)
						}
						if e.Source.IsValid() {
							sourced++
							if e.Source != s.source || e.SourcePort == 0 {
								t.Errorf("%s: blames %s", s.title, e.Source)
							}
						}
						guesses += e.Attempts
					}
				}
				if guesses != s.guesses || sourced != min(1, guesses) && !strings.HasSuffix(s.title, "by the Unix socket") {
					t.Errorf("%s: read %d guesses, %d of them with their source; made %d", s.title, guesses, sourced, s.guesses)
				}
			}
		})
	}
	logs, err := filepath.Glob("testdata/redis/*-log.txt")
	if err != nil || len(logs) < 3 {
		t.Fatalf("three versions wanted: %v %v", logs, err)
	}
	probes := 0
	for _, file := range logs {
		for _, s := range dbSections(t, file) {
			for _, l := range s.lines {
				e := parse.Message(event.Redis, l)
				if e.Kind == event.AuthFailed || e.Kind == event.AuthOK || e.Source.IsValid() {
					t.Errorf("%s: Redis's own log states %+v: %s", file, e, l)
				}
				if e.Kind == event.Probe {
					probes++
				}
			}
		}
	}
	if probes < 2 { // Redis 6.0 says nothing of other protocols where it asks for a password
		t.Errorf("%d probes seen", probes)
	}
}
