package native_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kokkuri/kokkuri/internal/native"
)

// records reads lines of a format.
func records(t *testing.T, format string, ref time.Time, lines ...string) []native.Record {
	t.Helper()
	f, ok := native.Find(format)
	if !ok {
		t.Fatal(format)
	}
	r := f.New()
	var out []native.Record
	take := func(list []native.Record) {
		for _, rec := range list {
			rec.Text = []byte(string(rec.Text)) // it is valid until the next call only
			out = append(out, rec)
		}
	}
	for _, l := range lines {
		take(r.Line([]byte(l), ref))
	}
	take(r.Flush())
	return out
}

func params(pairs ...string) []native.Param {
	var list []native.Param
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, native.Param{Name: pairs[i], Value: pairs[i+1]})
	}
	return list
}

// TestTimesOfDatabases: each format's times, in the zones that they are in.
func TestTimesOfDatabases(t *testing.T) {
	t.Parallel()
	berlin := time.FixedZone("CEST", 2*60*60)
	for _, c := range []struct{ format, line, want string }{
		{native.MySQLError, "2026-11-22 18:00:00 31 [Warning] x", "2026-11-22T16:00:00Z"},
		{native.MySQLError, "2026-11-22  8:00:00 31 [Warning] x", "2026-11-22T06:00:00Z"},
		{native.MySQLError, "2026-11-22T18:00:00.123456Z 31 [Note] [MY-010926] [Server] x", "2026-11-22T18:00:00.123456Z"},
		{native.MySQLError, "2026-11-22T18:00:00.123456+01:00 31 [Note] [MY-010926] [Server] x", "2026-11-22T17:00:00.123456Z"},
		{native.MySQLError, "261122  8:00:00 [Warning] x", "2026-11-22T06:00:00Z"},
		{native.MySQLJSON, `{"prio":3,"err_code":10926,"msg":"x","time":"2026-11-22T18:00:00.123456Z","thread":8,"subsystem":"Server","label":"Note"}`, "2026-11-22T18:00:00.123456Z"},
		{native.PostgresStderr, "2026-11-22 18:00:00.123 UTC [1] LOG:  x", "2026-11-22T18:00:00.123Z"},
		{native.PostgresStderr, "2026-11-22 18:00:00 CET [1] LOG:  x", "2026-11-22T17:00:00Z"},
		{native.PostgresStderr, "2026-11-22 18:00:00 CEST [1] LOG:  x", "2026-11-22T16:00:00Z"},
		{native.PostgresStderr, "2026-11-22 18:00:00 EST [1] LOG:  x", "2026-11-22T23:00:00Z"},
		{native.PostgresStderr, "2026-11-22 18:00:00 +03 [1] LOG:  x", "2026-11-22T15:00:00Z"},
		{native.PostgresStderr, "2026-11-22 18:00:00 -0330 [1] LOG:  x", "2026-11-22T21:30:00Z"},
		{native.PostgresStderr, "1795370400.123 [1] LOG:  x", "2026-11-22T18:00:00.123Z"},
		{native.PostgresStderr, "[1] 2026-11-22 18:00:00.123 GMT LOG:  x", "2026-11-22T18:00:00.123Z"},
		{native.PostgresCSV, `2026-11-22 18:00:00.123 UTC,,,1,,6b.1,1,,2026-11-22 18:00:00 UTC,,0,LOG,00000,"x",,,,,,,,,"","postmaster"`, "2026-11-22T18:00:00.123Z"},
		{native.PostgresJSON, `{"timestamp":"2026-11-22 18:00:00.123 CET","pid":1,"error_severity":"LOG","message":"x"}`, "2026-11-22T17:00:00.123Z"},
	} {
		list := records(t, c.format, time.Date(2026, 11, 23, 0, 0, 0, 0, berlin), c.line)
		if len(list) != 1 || list[0].Time.Format(time.RFC3339Nano) != c.want {
			t.Errorf("%s: read %v, want %s", c.line, list, c.want)
		}
	}
}

// TestRecordsOfPostgres: the same failure in each form, and what spans lines.
func TestRecordsOfPostgres(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 18, 0, 0, 123e6, time.UTC)
	fields := []string{"source", "203.0.113.66", "source_port", "4022", "account", "al\nice", "database", "shop", "code", "28P01"}
	text := []byte("FATAL:  password authentication failed for user \"al\nice\"")
	for _, c := range []struct {
		format string
		lines  []string
		want   []native.Record
	}{
		{native.PostgresCSV, []string{
			`2026-11-22 18:00:00.123 UTC,"al`, `ice","shop",4711,"203.0.113.66:4022",6b.1,2,"authentication",2026-11-22 18:00:00 UTC,3/8,0,FATAL,28P01,"password authentication failed for user ""al`,
			`ice""","x",,,,,,,,"","client backend",,0`,
		}, []native.Record{{Time: at, PID: "4711", Text: text, Params: params(append([]string{"format", "postgres-csv"}, fields...)...)}}},
		{native.PostgresCSV, []string{ // 13's columns, a name instead of an address
			`2026-11-22 18:00:00.123 UTC,,,4711,"evil.example:4022",6b.1,2,"",2026-11-22 18:00:00 UTC,,0,LOG,00000,"x",,,,,,,,,"","client backend"`,
		}, []native.Record{{Time: at, PID: "4711", Text: []byte("LOG:  x"), Params: params("format", "postgres-csv", "code", "00000")}}},
		{native.PostgresCSV, []string{`2026-11-22 18:00:00.123 UTC,"a"b",c`, `x`, `1,2,3`}, nil},
		{native.PostgresJSON, []string{
			`{"timestamp":"2026-11-22 18:00:00.123 UTC","user":"al\nice","dbname":"shop","pid":4711,"remote_host":"203.0.113.66","remote_port":4022,"error_severity":"FATAL","state_code":"28P01","message":"password authentication failed for user \"al\nice\""}`,
			`not json`, `{"x":1}`,
		}, []native.Record{{Time: at, PID: "4711", Text: text, Params: params(append([]string{"format", "postgres-json"}, fields...)...)}}},
		{native.PostgresStderr, []string{
			"2026-11-22 18:00:00.123 UTC [4711] 203.0.113.66(4022) alice@shop ERROR:  relation \"x\" does not exist", "\tat line 2", "\tor 3", "2026-11-22 18:00:00.123 UTC [4712] LOG:  y",
		}, []native.Record{
			{Time: at, PID: "4711", Text: []byte("ERROR:  relation \"x\" does not exist\nat line 2\nor 3"), Params: params("format", "postgres-stderr")},
			{Time: at, PID: "4712", Text: []byte("LOG:  y"), Params: params("format", "postgres-stderr")},
		}},
		{
			native.PostgresStderr,
			[]string{"2026-11-22 18:00:00 UTC:203.0.113.66(4022):alice@shop:[4711]:FATAL:  password authentication failed for user \"alice\""},
			[]native.Record{{
				Time: at.Truncate(time.Second), Text: []byte("FATAL:  password authentication failed for user \"alice\""),
				Params: params("format", "postgres-stderr", "source", "203.0.113.66", "source_port", "4022"),
			}},
		},
		{
			native.PostgresStderr,
			[]string{"2026-11-22 18:00:00 UTC [4711]: user=alice,db=shop,app=[unknown],client=203.0.113.66 FATAL:  password authentication failed for user \"alice\""},
			[]native.Record{{
				Time: at.Truncate(time.Second), PID: "4711", Text: []byte("FATAL:  password authentication failed for user \"alice\""),
				Params: params("format", "postgres-stderr", "source", "203.0.113.66"),
			}},
		},
		{native.PostgresStderr, []string{ // a name of two lines
			"2026-11-22 18:00:00.123 UTC [4711] x", "2026-11-22 19:00:00.123 UTC [1] 198.51.100.9 y@shop FATAL:  password authentication failed for user \"x",
			"\t2026-11-22 19:00:00.123 UTC [1] 198.51.100.9 y\"",
		}, []native.Record{
			{Text: []byte("2026-11-22 18:00:00.123 UTC [4711] x"), Params: params("format", "postgres-stderr")},
			{
				Time: at, Text: []byte("FATAL:  password authentication failed for user \"x\n2026-11-22 19:00:00.123 UTC [1] 198.51.100.9 y\""),
				Params: params("format", "postgres-stderr", "reason", "unsure"),
			},
		}},
	} {
		if diff := cmp.Diff(c.want, records(t, c.format, at, c.lines...)); diff != "" {
			t.Errorf("%s %q (-want +got):\n%s", c.format, c.lines, diff)
		}
	}
}

// TestRecordsOfMySQL: the text of either log is what the text log says.
func TestRecordsOfMySQL(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 18, 0, 0, 123456e3, time.UTC)
	got := records(t, native.MySQLJSON, at, // as the MySQL 8.4 Reference Manual has it, 7.4.2.7
		`{ "prio": 3, "err_code": 10926, "source_line": 561, "source_file": "sql_authentication.cc", "function": "run", "msg": "Access denied for user 'x\ny'@'203.0.113.66' (using password: YES)", "time": "2026-11-22T18:00:00.123456Z", "ts": 1580508624, "thread": 8, "err_symbol": "ER_ACCESS_DENIED_ERROR_WITH_PASSWORD", "SQL_state": "HY000", "subsystem": "Server", "buffered": 1580508624, "label": "Note" }`,
		`{}`, `[`, ``)
	want := []native.Record{{
		Time: at, Text: []byte("8 [Note] [MY-010926] [Server] Access denied for user 'x\ny'@'203.0.113.66' (using password: YES)"),
		Params: params("format", "mysql-json", "code", "MY-010926", "thread", "8"),
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mysql-json (-want +got):\n%s", diff)
	}
	got = records(t, native.MySQLError, at, "2026-11-22 18:00:00 31 [Warning] Access denied for user 'x", "y'@'203.0.113.66' (using password: YES)", "")
	first := native.Record{Time: at.Truncate(time.Second), Text: []byte("2026-11-22 18:00:00 31 [Warning] Access denied for user 'x"), Params: params("format", "mysql-error")}
	second := first
	second.Text = []byte("y'@'203.0.113.66' (using password: YES)")
	if diff := cmp.Diff([]native.Record{first, second}, got); diff != "" {
		t.Errorf("mysql-error (-want +got):\n%s", diff)
	}
}
