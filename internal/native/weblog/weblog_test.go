package weblog_test

import (
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/native/weblog"
)

func TestAccess(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line, peer, user, request, method, target string
		status                                    int
		unsure, bad                               bool
	}{
		{line: `203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET /a b?c HTTP/1.1" 200 5`, peer: "203.0.113.66", request: "GET /a b?c HTTP/1.1", method: "GET", target: "/a b?c", status: 200},
		{line: `www:80 ::1 - a b [22/Nov/2026:18:00:00 +0000] "GET http://h/x HTTP/1.1" 401 5 "r" "u"`, peer: "::1", user: "a b", request: "GET http://h/x HTTP/1.1", method: "GET", target: "/x", status: 401},
		{line: `203.0.113.66 - a\" [22/Nov/2026:18:00:00 +0000] "GET /\"\\" 400 5`, peer: "203.0.113.66", user: `a\"`, request: `GET /\"\\`, method: "GET", target: `/\"\\`, status: 400},
		{line: `203.0.113.66 - "" [22/Nov/2026:18:00:00 +0000] "-" 408 -`, peer: "203.0.113.66", request: "-", status: 408},
		{line: `203.0.113.10 203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "-" 408`, peer: "203.0.113.66", request: "-", status: 408, unsure: true},
		{line: `203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "\x16\x03" 400 5`, peer: "203.0.113.66", request: `\x16\x03`, status: 400},
		{line: `203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 20 5`, bad: true},
		{line: `203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 2000 5`, bad: true},
		{line: `203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1\" 200 5`, bad: true},
		{line: `203.0.113.66 - - 22/Nov/2026:18:00:00 "GET / HTTP/1.1" 200 5`, bad: true},
		{line: `203.0.113.66 - [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 200 5`, bad: true},
		{line: `203.0.113.66`, bad: true},
		{line: ``, bad: true},
		{line: `"`, bad: true},
		{line: `] "`, bad: true},
	} {
		a, ok := weblog.ReadAccess([]byte(c.line))
		if ok == c.bad {
			t.Errorf("%s: ok is %v", c.line, ok)
		}
		if !ok {
			continue
		}
		method, target, _ := a.RequestLine()
		if string(a.Peer) != c.peer || string(a.User) != c.user || string(a.Request) != c.request || string(method) != c.method || string(target) != c.target ||
			a.Status != c.status || a.Unsure != c.unsure {
			t.Errorf("%s:\nis read as %q %q %q %q %q %d %v", c.line, a.Peer, a.User, a.Request, method, target, a.Status, a.Unsure)
		}
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	a, ok := weblog.ReadAccess([]byte(`203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 200 5 "r\"" "u\\" x "f" "cut`))
	if !ok {
		t.Fatal("not read")
	}
	for i, want := range []string{`r\"`, `u\\`, `f`} {
		if got, ok := a.Field(i + 1); !ok || string(got) != want {
			t.Errorf("field %d is %q, %v", i+1, got, ok)
		}
	}
	if got, ok := a.Field(4); ok {
		t.Errorf("field 4 is %q", got)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	cet := time.FixedZone("CET", 3600)
	want := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
	access, _ := weblog.AccessTime([]byte("22/Nov/2026:19:00:00 +0100"))
	nginx, _ := weblog.NginxTime([]byte("2026/11/22 19:00:00"), cet)
	apache, _ := weblog.ApacheTime([]byte("Sun Nov 22 19:00:00.000000 2026"), cet)
	if !access.Equal(want) || !nginx.Equal(want) || !apache.Equal(want) {
		t.Errorf("%s, %s, %s", access, nginx, apache)
	}
	if got, ok := weblog.AccessTime([]byte("32/Nov/2026:19:00:00 +0100")); ok {
		t.Errorf("a 32nd is %s", got)
	}
}

func TestDenials(t *testing.T) {
	t.Parallel()
	const head = "[Sun Nov 22 18:00:00.000000 2026] [auth_basic:error] [pid 12:tid 13] [client 203.0.113.66:4022] "
	for _, c := range []struct {
		text, user, target string
		guess, ok          bool
	}{
		{`AH01617: user a b: authentication failure for "/x y": Password Mismatch`, "a b", "/x y", true, true},
		{`user a: authentication failure for "/": Password Mismatch`, "a", "/", true, true},
		{`AH01618: user a not found: /x`, "a", "/x", true, true},
		{"AH01790: user `a' in realm `r' not found: /x", "a", "/x", true, true},
		{`AH01794: user a: password mismatch: /x`, "a", "/x", true, true},
		{`AH01631: user a: authorization failure for "/x": `, "a", "/x", false, true},
		{`AH01630: client denied by server configuration: /x`, "", "", false, false},
		{`AH01617: user a: something else`, "", "", false, false},
		{``, "", "", false, false},
	} {
		e, ok := weblog.ReadError([]byte(head + c.text))
		if !ok || string(e.Peer) != "203.0.113.66" || string(e.Port) != "4022" || string(e.PID) != "12" || string(e.Level) != "auth_basic:error" {
			t.Errorf("%s: %+v, %v", c.text, e, ok)
		}
		d, ok := e.Denial()
		if ok != c.ok || string(d.User) != c.user || string(d.Target) != c.target || ok && d.Guess != c.guess {
			t.Errorf("%s: user %q, target %q, guess %v, %v", c.text, d.User, d.Target, d.Guess, ok)
		}
	}
	old, ok := weblog.ReadError([]byte("[Sun Nov 22 18:00:00 2026] [error] [client 2001:db8:1:66::66] user a not found: /"))
	if !ok || string(old.Peer) != "2001:db8:1:66::66" || len(old.Port) != 0 {
		t.Errorf("2.2's form: %+v, %v", old, ok)
	}
}
