package parse_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// fuzzService seeds a fuzz target with the lines of testdata/lines and holds what is true of any event.
func fuzzService(f *testing.F, service event.Service, tag string, formats ...string) {
	f.Helper()
	for _, line := range textLines(f, "testdata/lines/"+string(service)+".txt") {
		msg, _, _ := strings.Cut(line, " => ")
		f.Add([]byte(msg))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		e := parse.Message(service, msg)
		if e.Service != service || e.Kind == "" || e.Source.Is4In6() || e.Source.Zone() != "" || len(e.Account) > 512 || len(e.Resource) > 512 {
			t.Errorf("%+v", e)
		}
		if (e.Kind == event.AuthFailed) != (e.Attempts > 0) {
			t.Errorf("%s with %d attempts", e.Kind, e.Attempts)
		}
		if e.Source.Is4() && !strings.Contains(string(msg), e.Source.String()) {
			t.Errorf("source %s does not stand in %q", e.Source, msg)
		}
		var p parse.Parser
		for line := range strings.SplitSeq(string(msg), "\n") {
			again := p.Line([]byte("2026-11-22T18:00:00Z web "+tag+"[1]: "+line), time.Time{})
			if (again.Kind == event.AuthFailed) != (again.Attempts > 0) {
				t.Errorf("Parser: %s with %d attempts", again.Kind, again.Attempts)
			}
		}
		for _, name := range formats {
			format, _ := native.Find(name)
			r := format.New()
			ref := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
			var list []native.Record
			for line := range strings.SplitSeq(string(msg), "\n") {
				list = r.Line([]byte(line), ref)
				for _, rec := range list {
					if e := p.Line(native.Encode(rec, "web", format.App), ref); e.Service != service {
						t.Errorf("%s: %+v became %+v", name, rec, e)
					}
				}
			}
			_ = r.Flush()
		}
	})
}

func FuzzMySQL(f *testing.F) {
	f.Add([]byte(`{"prio":3,"err_code":10926,"subsystem":"Server","msg":"Access denied for user 'x'@'y'","time":"2026-11-22T18:00:00.1Z","thread":8,"label":"Note"}`))
	fuzzService(f, event.MySQL, "mariadbd", native.MySQLError, native.MySQLJSON)
}

func FuzzPostgres(f *testing.F) {
	f.Add([]byte("2026-11-22 18:00:00.123 CET,\"a\nb\",\"shop\",1,\"203.0.113.66:1\",6b.1,2,\"x\",2026-11-22 18:00:00 UTC,3/8,0,FATAL,28P01,\"password authentication failed for user \"\"a\"\"\",,,,,,,,,\"\""))
	f.Add([]byte(`{"timestamp":"2026-11-22 18:00:00.123 +05","user":"a","pid":1,"remote_host":"203.0.113.66","remote_port":1,"error_severity":"FATAL","message":"x"}`))
	f.Add([]byte("2026-11-22 18:00:00.123 UTC [1] a\nb@shop FATAL:  password authentication failed for user \"a\n\tb\"\n2026-11-22 18:00:00.123 UTC [1] LOG:  x"))
	fuzzService(f, event.Postgres, "postgres", native.PostgresStderr, native.PostgresCSV, native.PostgresJSON)
}

func FuzzRedis(f *testing.F) {
	fuzzService(f, event.Redis, "redis-server")
}

// FuzzRedisACL holds the record of any entry.
func FuzzRedisACL(f *testing.F) {
	f.Add("auth", "AUTH", "default", "id=3 addr=203.0.113.66:4022 laddr=127.0.0.1:6379", uint64(3))
	f.Add("command", "get", "x\" source=\"198.51.100.9", "id=3 addr=[::1]:1 name=addr=198.51.100.9:1", uint64(1))
	f.Fuzz(func(t *testing.T, reason, object, user, info string, count uint64) {
		e := native.ACLEntry{Count: count, Reason: "auth", Object: object, Username: user, ClientInfo: info}
		client, known := e.Client()
		_ = e.Set("reason", reason)
		for _, r := range e.Records(count, time.Now()) {
			got := parse.Line(native.Encode(r, "web", native.RedisACLApp), time.Time{})
			if got.Source.IsValid() && (!known || got.Source != client.Addr()) {
				t.Errorf("%+v blames %s", e, got.Source)
			}
		}
	})
}

func BenchmarkDatabases(b *testing.B) {
	ref := time.Date(2026, 11, 22, 18, 0, 10, 0, time.UTC)
	const sd = "[kokkuri@32473 format=\"postgres-csv\" source=\"203.0.113.66\" source_port=\"4022\" account=\"alice\" database=\"shop\" code=\"28P01\"]"
	for name, line := range map[string]string{
		"mariadb/journal":  "2026-11-22T18:00:00.123456+00:00 web mariadbd[12345]: 2026-11-22 18:00:00 31 [Warning] Access denied for user 'root'@'203.0.113.66' (using password: YES)",
		"mysql8/syslog":    "2026-11-22T18:00:00.123456+00:00 web mysqld[12345]: 2026-11-22T18:00:00.123456Z 31 [Note] [MY-010926] [Server] Access denied for user 'root'@'203.0.113.66' (using password: YES)",
		"mariadb/native":   "1 2026-11-22T18:00:00Z web mysqld - - [kokkuri@32473 format=\"mysql-error\"] 2026-11-22 18:00:00 31 [Warning] Access denied for user 'root'@'203.0.113.66' (using password: YES)",
		"mariadb/noise":    "2026-11-22T18:00:00.123456+00:00 web mariadbd[12345]: 2026-11-22 18:00:00 0 [Note] InnoDB: Buffer pool(s) load completed at 261122 18:00:00",
		"postgres/syslog":  "2026-11-22T18:00:00.123456+00:00 web postgres[12345]: [3-1] 2026-11-22 18:00:00.123 UTC [12345] alice@shop FATAL:  password authentication failed for user \"alice\"",
		"postgres/native":  "1 2026-11-22T18:00:00.123Z web postgres 12345 - " + sd + " FATAL:  password authentication failed for user \"alice\"",
		"postgres/opened":  "2026-11-22T18:00:00.123456+00:00 web postgres[12345]: [2-1] LOG:  connection received: host=203.0.113.66 port=4022",
		"postgres/noise":   "2026-11-22T18:00:00.123456+00:00 web postgres[12345]: [9-1] LOG:  checkpoint starting: time",
		"redis/acl-native": "1 2026-11-22T18:00:00.123Z web redis-server - - [kokkuri@32473 source=\"203.0.113.66\" source_port=\"4022\" format=\"redis-acl-log\" reason=\"auth\" count=\"1\" account=\"default\" object=\"AUTH\"] ACL LOG: auth denied from 203.0.113.66:4022, count 1, user \"default\", object \"AUTH\", context toplevel",
		"redis/noise":      "2026-11-22T18:00:00.123456+00:00 web redis[12345]: Background saving terminated with success",
	} {
		b.Run(name, func(b *testing.B) {
			var p parse.Parser
			data := []byte(line)
			b.ReportAllocs()
			for b.Loop() {
				p.Line(data, ref)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
