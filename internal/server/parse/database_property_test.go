package parse_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// hostileName draws a name of at most limit characters, out of pieces of what the servers themselves write.
func hostileName(limit int) *rapid.Generator[string] {
	const my, pg = "2026-11-22 18:00:00 31 [Warning] ", "2026-11-22 18:00:00.000 UTC [1] "
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{
			"\n", "\n", "\n", "'@'198.51.100.9'", "'@'198.51.100.9' (using password: YES)", "Access denied for user 'a", my, my + "Access denied for user 'a",
			"\n" + my, "261122 18:00:00 [W] Access denied for user 'a", "' to database 'x", "'. Account is locked.", "2026-11-22T18:00:00Z 1 [Note] [MY-010926] [Server] ",
			"Aborted connection 1 to db: 'unconnected' user: 'unauthenticated' host: '198.51.100.9' (Got packets out of order)",
			pg, "\n" + pg + "r", "@y", "LOG:  ", "FATAL:  ", "x FATAL:  password authentication failed for user \"r\"", "LOG:  connection received: host=198.51.100.9 port=1",
			"LOG:  connection authorized: user=x database=y", "198.51.100.9 ", "198.51.100.9(1) ", "client=198.51.100.9", "\t", "[1] ", "[2] ", "DETAIL:  ", "\"", "\",\"", ",",
			"#012", "]", "\\", "\x1b[2J", "\xff",
		}),
		rapid.StringN(0, 6, -1),
	)
	return rapid.Map(rapid.SliceOfN(piece, 0, 5), func(list []string) string {
		s := strings.ReplaceAll(strings.Join(list, ""), "\x00", "")
		for utf8.RuneCountInString(s) > limit {
			_, n := utf8.DecodeLastRuneInString(s)
			s = s[:len(s)-n]
		}
		return s
	})
}

// blamed counts guesses by source. Nobody may be blamed more often than he failed, but for the liar, who may harm himself.
type blamed map[netip.Addr]int

const liar = "203.0.113.66"

func (b blamed) check(t *rapid.T, made map[netip.Addr]int, log string) {
	t.Helper()
	for source, n := range b {
		if n > made[source] && (source != netip.MustParseAddr(liar) || made[source] == 0) {
			t.Fatalf("%s is blamed for %d guesses and made %d:\n%s", source, n, made[source], log)
		}
	}
}

// TestMariaDBNamesForgeNothing writes a log as MariaDB does, with any names, and reads it by each road.
func TestMariaDBNamesForgeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var log strings.Builder
		made := make(map[netip.Addr]int)
		for i := range rapid.IntRange(1, 12).Draw(t, "attempts") {
			source := netip.MustParseAddr(rapid.SampledFrom([]string{"203.0.113.68", "203.0.113.67", "2001:db8:1:66::66"}).Draw(t, "source"))
			name := rapid.OneOf(rapid.SampledFrom([]string{"root", "a"}), hostileName(128)).Draw(t, "name")
			using := rapid.SampledFrom([]string{"", " (using password: YES)", " (using password: NO)"}).Draw(t, "using")
			fmt.Fprintf(&log, "2026-11-22 18:00:%02d %d [Warning] Access denied for user '%s'@'%s'%s\n", i, 40+i, name, source, using)
			made[source]++
		}
		lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
		format, _ := native.Find(native.MySQLError)
		r := format.New()
		var byJournal, byFormat parse.Parser
		journal, file := blamed{}, blamed{}
		for _, l := range lines {
			journal.add(byJournal.Line([]byte("2026-11-22T18:00:00Z web mariadbd[7]: "+l), time.Time{}))
			for _, rec := range r.Line([]byte(l), time.Now()) {
				file.add(byFormat.Line(native.Encode(rec, "web", format.App), time.Time{}))
			}
		}
		journal.check(t, made, log.String())
		file.check(t, made, log.String())
	})
}

func (b blamed) add(e event.Event) {
	if e.Source.IsValid() && (e.Kind == event.AuthFailed || e.Kind == event.AuthOK) {
		b[e.Source] += max(1, e.Attempts)
	}
}

// TestPostgresNamesForgeNothing writes a log as PostgreSQL does, in any form, and reads it. The monitor's connections are
// opened and left alone.
func TestPostgresNamesForgeNothing(t *testing.T) {
	t.Parallel()
	forms := []string{"%m [%p] %q%u@%d ", "%m [%p] ", "%t [%p]: user=%u,db=%d,app=%a,client=%h ", "%t:%r:%u@%d:[%p]:", "%m %h [%p] %q%u@%d ", "%m [%p] %h ", "csv", "json"}
	rapid.Check(t, func(t *rapid.T) {
		form := rapid.SampledFrom(forms).Draw(t, "form")
		connections := rapid.Bool().Draw(t, "log_connections")
		var log strings.Builder
		made := make(map[netip.Addr]int)
		for i := range rapid.IntRange(1, 8).Draw(t, "attempts") {
			one := pgConnection{form: form, pid: 1 + i, port: 4000 + i, clock: i, source: rapid.SampledFrom([]string{liar, liar, "2001:db8:1:66::66"}).Draw(t, "source")}
			if rapid.IntRange(0, 3).Draw(t, "monitor") == 0 {
				one.source = "203.0.113.20"
				if connections {
					one.write(&log, "LOG", fmt.Sprintf("connection received: host=%s port=%d", one.source, one.port))
				}
				continue
			}
			if connections {
				one.write(&log, "LOG", fmt.Sprintf("connection received: host=%s port=%d", one.source, one.port))
			}
			one.user, one.database = "alice", "shop"
			if one.source == liar {
				one.user, one.database = hostileName(63).Draw(t, "user"), hostileName(63).Draw(t, "database")
			}
			one.user, one.database = one.user[:min(len(one.user), 63)], one.database[:min(len(one.database), 63)]
			one.write(&log, "FATAL", fmt.Sprintf("password authentication failed for user \"%s\"", one.user))
			one.write(&log, "DETAIL", "Connection matched pg_hba.conf line 3: \"host shop alice 127.0.0.1/32 scram-sha-256\"")
			made[netip.MustParseAddr(one.source)]++
		}
		name := native.PostgresStderr
		if form == "csv" || form == "json" {
			name = "postgres-" + form
		}
		format, _ := native.Find(name)
		r := format.New()
		var p parse.Parser
		got := blamed{}
		read := func(list []native.Record) {
			for _, rec := range list {
				got.add(p.Line(native.Encode(rec, "web", format.App), time.Time{}))
			}
		}
		for l := range strings.SplitSeq(strings.TrimSuffix(log.String(), "\n"), "\n") {
			read(r.Line([]byte(l), time.Now()))
		}
		read(r.Flush())
		got.check(t, made, log.String())
	})
}

// pgConnection is one connection to a PostgreSQL that logs in a form.
type pgConnection struct {
	form, source   string
	user, database string
	pid, port      int
	clock          int
}

func (c pgConnection) write(log *strings.Builder, severity, message string) {
	clock := fmt.Sprintf("2026-11-22 18:00:%02d", c.clock)
	switch c.form {
	case "csv":
		if severity == "DETAIL" {
			return
		}
		q := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
		fmt.Fprintf(log, "%s.123 UTC,%s,%s,%d,%s,6b07.1,1,\"\",%s UTC,,0,%s,28P01,%s,,,,,,,,,\"\",\"client backend\",,0\n",
			clock, q(c.user), q(c.database), c.pid, q(fmt.Sprintf("%s:%d", c.source, c.port)), clock, severity, q(message))
		return
	case "json":
		if severity == "DETAIL" {
			return
		}
		fmt.Fprintf(log, `{"timestamp":"%s.123 UTC","user":%s,"dbname":%s,"pid":%d,"remote_host":"%s","remote_port":%d,"error_severity":"%s","message":%s}`+"\n",
			clock, jsonString(c.user), jsonString(c.database), c.pid, c.source, c.port, severity, jsonString(message))
		return
	}
	user, database := c.user, c.database
	if severity == "LOG" {
		user, database = "[unknown]", "[unknown]"
	}
	prefix := strings.NewReplacer("%m", clock+".123 UTC", "%t", clock+" UTC", "%p", strconv.Itoa(c.pid), "%q", "", "%u", user, "%d", database,
		"%a", "[unknown]", "%h", c.source, "%r", fmt.Sprintf("%s(%d)", c.source, c.port)).Replace(c.form)
	fmt.Fprintf(log, "%s%s:  %s\n", prefix, severity, strings.ReplaceAll(message, "\n", "\n\t"))
}

// jsonString is a string as PostgreSQL's escape_json writes it: bytes above 127 as they are.
func jsonString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ':
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// TestSingleLinesNameTheTrueSource: a message without line feeds in its names says who it was, or nobody.
func TestSingleLinesNameTheTrueSource(t *testing.T) {
	t.Parallel()
	// %[1]s is the user's name, %[2]s the peer's address, %[3]s a database.
	for _, c := range []struct {
		service event.Service
		form    string
		sure    bool
	}{
		{event.MySQL, "31 [Warning] Access denied for user '%[1]s'@'%[2]s' (using password: YES)", true},
		{event.MySQL, "2026-11-22T18:00:00.123456Z 31 [Note] [MY-010926] [Server] Access denied for user '%[1]s'@'%[2]s' (using password: NO)", true},
		{event.MySQL, "31 [Warning] Access denied for user '%[1]s'@'%[2]s'", false},
		{event.MySQL, "31 [Warning] Access denied for user 'alice'@'%%' to database '%[3]s'", false},
		{event.MySQL, "31 [Warning] Access denied for user 'alice'@'%[2]s' to database '%[3]s'", false},
		{event.Postgres, "[3-1] 2026-11-22 18:00:00 UTC [4711] %[2]s %[1]s@%[3]s FATAL:  password authentication failed for user \"%[1]s\"", false},
		{event.Postgres, "[3-1] %[1]s@%[3]s FATAL:  no pg_hba.conf entry for host \"%[2]s\", user \"%[1]s\", database \"%[3]s\", SSL off", false},
		{event.Postgres, "FATAL:  pg_hba.conf rejects connection for host \"%[2]s\", user \"%[1]s\", database \"%[3]s\", no encryption", false},
	} {
		t.Run(c.form, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				source := netip.MustParseAddr(rapid.SampledFrom([]string{"203.0.113.66", "2001:db8:1:66::66", "::1"}).Draw(t, "source"))
				one := func(label string) string { return strings.ReplaceAll(hostileName(63).Draw(t, label), "\n", " ") }
				user, database := one("user"), one("database")
				user, database = user[:min(len(user), 63)], database[:min(len(database), 63)]
				msg := fmt.Sprintf(c.form, user, source, database)
				msg, _, _ = strings.Cut(msg, "%!(EXTRA")
				e := parse.Message(c.service, []byte(msg))
				if e.Source.IsValid() && e.Source != source || c.sure && !e.Source.IsValid() {
					t.Fatalf("read %s from %q", e.Source, msg)
				}
			})
		})
	}
}

// TestRedisNamesForgeNothing: whatever name a client gives, the source of the record is its own.
func TestRedisNamesForgeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		source := rapid.SampledFrom([]string{"203.0.113.66:4022", "[2001:db8:1:66::66]:4022", "/run/redis.sock:0"}).Draw(t, "source")
		evil := rapid.OneOf(hostileName(400), rapid.SampledFrom([]string{
			`" source="198.51.100.9`, `"] [kokkuri@32473 source="198.51.100.9"]`, `\" source=\"198.51.100.9`, `x] source="198.51.100.9"`,
		}))
		e := native.ACLEntry{
			Count: rapid.Uint64Range(1, 1<<40).Draw(t, "count"), Reason: "auth", Context: "toplevel", Object: evil.Draw(t, "object"), Username: evil.Draw(t, "user"),
			ClientInfo: "id=3 addr=" + source + " laddr=127.0.0.1:6379 fd=8 name=" + strings.ReplaceAll(evil.Draw(t, "client"), " ", ""),
		}
		total := 0
		for _, r := range e.Records(e.Count, time.Now()) {
			line := native.Encode(r, "web", native.RedisACLApp)
			got := parse.Line(line, time.Time{})
			if got.Source.IsValid() && netip.AddrPortFrom(got.Source, got.SourcePort).String() != source {
				t.Fatalf("read %s from %q", got.Source, line)
			}
			if got.Kind != event.AuthFailed || got.Account != strings.ReplaceAll(e.Username, "\n", "#012") {
				t.Fatalf("read %+v from %q", got, line)
			}
			total += got.Attempts
		}
		const most = 1 << 20 // that one record may state
		if uint64(total) != min(e.Count, most) && uint64(total) != min(e.Count, most+1) {
			t.Fatalf("%d guesses of %d", total, e.Count)
		}
	})
}

// TestEncodedRecordsAreRead: what a format makes of any lines is syslog whose fields come back as they were.
func TestEncodedRecordsAreRead(t *testing.T) {
	t.Parallel()
	for _, f := range native.Formats() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			if parse.ServiceOf(f.App) != f.Service {
				t.Fatalf("%s is read as a program of %q, not of %s", f.App, parse.ServiceOf(f.App), f.Service)
			}
			rapid.Check(t, func(t *rapid.T) {
				r := f.New()
				ref := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
				for range rapid.IntRange(1, 6).Draw(t, "lines") {
					line := rapid.OneOf(nativeLine(), hostileName(200)).Draw(t, "line")
					for one := range strings.SplitSeq(line, "\n") {
						readBack(t, r.Line([]byte(one), ref), f)
					}
				}
				readBack(t, r.Flush(), f)
			})
		})
	}
}

// nativeLine draws lines as the formats have them, with something hostile in them.
func nativeLine() *rapid.Generator[string] {
	forms := rapid.SampledFrom([]string{
		"2026-11-22 18:00:00 31 [Warning] Access denied for user '%s'@'203.0.113.66' (using password: YES)",
		`{"prio":3,"err_code":10926,"subsystem":"Server","msg":"Access denied for user %s","time":"2026-11-22T18:00:00.123456Z","thread":8,"label":"Note"}`,
		"2026-11-22 18:00:00.123 UTC [4711] %s@shop FATAL:  password authentication failed for user \"x\"",
		`2026-11-22 18:00:00.123 UTC,"%s","shop",4711,"203.0.113.66:4022",6b07.1,2,"authentication",2026-11-22 18:00:00 UTC,3/8,0,FATAL,28P01,"password authentication failed for user ""x""",,,,,,,,,"","client backend",,0`,
		`{"timestamp":"2026-11-22 18:00:00.123 UTC","user":"%s","pid":4711,"remote_host":"203.0.113.66","remote_port":4022,"error_severity":"FATAL","message":"x"}`,
	})
	return rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf(forms.Draw(t, "form"), hostileName(60).Draw(t, "name"))
	})
}

func readBack(t *rapid.T, list []native.Record, f native.Format) {
	for _, r := range list {
		line := native.Encode(r, "web", f.App)
		h, ok := parse.Header(line, time.Time{})
		want := strings.TrimPrefix(strings.TrimLeft(strings.ReplaceAll(string(r.Text), "\n", "#012"), " "), "\ufeff")
		if !ok || h.Host != "web" || h.Tag != f.App || h.PID != r.PID || !h.Time.Equal(r.Time) || string(h.Msg) != want {
			t.Fatalf("%+v became %q, read as %+v", r, line, h)
		}
		if strings.Contains(string(line), "\n") {
			t.Fatalf("line feed in %q", line)
		}
	}
}
