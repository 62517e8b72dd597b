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
