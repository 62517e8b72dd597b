package parse_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// TestConnectionsComplete: what a message lacks is taken from the same process' others, and from nobody else's.
func TestConnectionsComplete(t *testing.T) {
	t.Parallel()
	const (
		child    = "18:00:00 web dropbear[1]: Child connection from 203.0.113.66:4022"
		unknown  = "18:00:01 web dropbear[1]: Login attempt for nonexistent user"
		rejected = "18:00:01 web dropbear[1]: User 'shut' has invalid shell, rejected"
		bad      = "18:00:02 web dropbear[1]: Bad password attempt for 'root' from 203.0.113.66:4022"
		ended    = "18:00:03 web dropbear[1]: Exit before auth from <203.0.113.66:4022>: Exited normally"
		three    = "18:00:03 web dropbear[1]: Exit before auth from <203.0.113.66:4022>: (user 'shut', 3 fails): Exited normally"
		two      = "18:00:03 web dropbear[1]: Exit before auth from <203.0.113.66:4022>: (user 'root', 2 fails): Exited normally"
		failed   = "18:00:00 web login[7]: FAILED LOGIN (1) on '/dev/pts/0' from '203.0.113.66' FOR 'alice', Authentication failure"
		opened   = "18:00:01 web login[7]: pam_unix(login:session): session opened for user alice(uid=1000) by (uid=0)"
	)
	const source = "203.0.113.66"
	for _, c := range []struct {
		name  string
		lines []string
		want  []string // kind, attempts and source of each line
	}{
		{"a guess at an unknown account", []string{child, unknown, ended}, []string{"context 0 " + source, "auth_failed 1 " + source, "context 0 " + source}},
		{"without the first line", []string{unknown, ended}, []string{"auth_failed 1 -", "probe 0 " + source}},
		{"of another process", []string{child, strings.Replace(unknown, "[1]", "[2]", 1)}, []string{"context 0 " + source, "auth_failed 1 -"}},
		{"of another host", []string{child, strings.Replace(unknown, " web ", " db ", 1)}, []string{"context 0 " + source, "auth_failed 1 -"}},
		{"of another program", []string{child, strings.Replace(opened, "[7]", "[1]", 1)}, []string{"context 0 " + source, "context 0 -"}},
		{"much later", []string{child, strings.Replace(unknown, "18:00", "18:30", 1)}, []string{"context 0 " + source, "auth_failed 1 -"}},
		{"after its end", []string{child, ended, unknown}, []string{"context 0 " + source, "probe 0 " + source, "auth_failed 1 -"}},
		{"guesses that only the end states", []string{child, rejected, three}, []string{"context 0 " + source, "context 0 -", "auth_failed 3 " + source}},
		{"guesses that were all stated", []string{child, bad, bad, two}, []string{"context 0 " + source, "auth_failed 1 " + source, "auth_failed 1 " + source, "context 0 " + source}},
		{"a guess that was lost", []string{child, bad, two}, []string{"context 0 " + source, "auth_failed 1 " + source, "auth_failed 1 " + source}},
		{"begun in the middle", []string{bad, two}, []string{"auth_failed 1 " + source, "context 0 " + source}},
		{"nothing tried", []string{child, ended}, []string{"context 0 " + source, "probe 0 " + source}},
		{"a login after a failure", []string{failed, opened}, []string{"auth_failed 1 " + source, "auth_ok 0 " + source}},
		{"a login alone", []string{opened}, []string{"context 0 -"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var p parse.Parser
			for i, line := range c.lines {
				e := p.Line([]byte("2026-11-22T"+strings.Replace(line, " ", "Z ", 1)), at("2026-11-22T18:00:10Z"))
				from := "-"
				if e.Source.IsValid() {
					from = e.Source.String()
				}
				if got := fmt.Sprint(e.Kind, " ", e.Attempts, " ", from); got != c.want[i] {
					t.Errorf("%s: read as %s, want %s", line, got, c.want[i])
				}
			}
		})
	}
}

// TestConnectionsAreBounded: a flood of connections that never end costs no more than so much.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	var p parse.Parser
	ref := at("2026-11-22T18:00:10Z")
	for i := range 20_000 {
		line := fmt.Sprintf("2026-11-22T18:00:00Z web dropbear[%d]: Child connection from 203.0.113.66:4022", i)
		if e := p.Line([]byte(line), ref); e.Kind != event.Context {
			t.Fatalf("%+v", e)
		}
	}
	// The newest is still known.
	if e := p.Line([]byte("2026-11-22T18:00:01Z web dropbear[19999]: Login attempt for nonexistent user"), ref); !e.Source.IsValid() {
		t.Errorf("%+v", e)
	}
}

// TestWriters: only the program that a line names can have written it, as far as the road tells.
func TestWriters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tag, uid, exe, msg string
		forged             bool
		kind               event.Kind
	}{
		{"sshd", "0", "/usr/sbin/sshd", "Failed password for root from 203.0.113.66 port 1 ssh2", false, event.AuthFailed},
		{"sshd", "0", "/usr/sbin/sshd (deleted)", "Failed password for root from 203.0.113.66 port 1 ssh2", false, event.AuthFailed},
		{"sshd", "1000", "/usr/bin/logger", "Failed password for root from 203.0.113.66 port 1 ssh2", true, event.None},
		{"sshd", "0", "/usr/bin/logger", "Failed password for root from 203.0.113.66 port 1 ssh2", true, event.None},
		{"sshd", "1000", "/usr/sbin/sshd", "Failed password for root from 203.0.113.66 port 1 ssh2", true, event.None},
		{"sshd", "1000", "/usr/sbin/sshd", "Accepted password for root from 203.0.113.66 port 1 ssh2", true, event.None},
		{"sshd", "1000", "/usr/sbin/sshd", "error: PAM: Authentication failure for root from 203.0.113.66", true, event.None},
		{"sshd", "1000", "/usr/sbin/sshd", "Disconnected from user alice 203.0.113.20 port 1", false, event.Context},
		{"sshd", "1000", "/usr/bin/logger", "Disconnected from user alice 203.0.113.20 port 1", false, event.None},
		{"sshd", "0", "/home/mallory/sshd", "Failed password for root from 203.0.113.66 port 1 ssh2", true, event.None},
		{"sshd", "0", "", "Failed password for root from 203.0.113.66 port 1 ssh2", false, event.AuthFailed},
		{"sshd", "", "/usr/bin/logger", "Failed password for root from 203.0.113.66 port 1 ssh2", true, event.None},
		{"dropbear", "0", "/usr/sbin/dropbear", "Bad password attempt for 'root' from 203.0.113.66:1", false, event.AuthFailed},
		{"dropbear", "1000", "/usr/bin/logger", "Bad password attempt for 'root' from 203.0.113.66:1", true, event.None},
		{"login", "0", "/usr/bin/login", "FAILED LOGIN 1 FROM 203.0.113.66 FOR root, Authentication failure", false, event.AuthFailed},
		{"login", "1000", "/usr/bin/logger", "FAILED LOGIN 1 FROM 203.0.113.66 FOR root, Authentication failure", true, event.None},
		{"postfix/smtpd", "108", "/usr/lib/postfix/sbin/smtpd", "warning: unknown[203.0.113.66]: SASL LOGIN authentication failed: x", false, event.AuthFailed},
		{"postfix/smtpd", "1000", "/usr/bin/logger", "warning: unknown[203.0.113.66]: SASL LOGIN authentication failed: x", true, event.None},
		{"dovecot", "0", "/usr/lib/dovecot/log", "imap-login: Disconnected (auth failed, 3 attempts in 10 secs): user=<x>, method=PLAIN, rip=203.0.113.66, lip=203.0.113.10", false, event.AuthFailed},
		{"dovecot", "1000", "/usr/bin/logger", "imap-login: Disconnected (auth failed, 3 attempts in 10 secs): user=<x>, method=PLAIN, rip=203.0.113.66, lip=203.0.113.10", true, event.None},
		{"cockpit-session", "0", "/usr/lib/cockpit/cockpit-session", "pam_unix(cockpit:auth): authentication failure; logname= uid=0 euid=0 tty= ruser= rhost=203.0.113.66  user=root", false, event.AuthFailed},
		{"cockpit-session", "1000", "/usr/bin/logger", "pam_unix(cockpit:auth): authentication failure; logname= uid=0 euid=0 tty= ruser= rhost=203.0.113.66  user=root", true, event.None},
	} {
		var p parse.Parser
		line := fmt.Sprintf(`1 2026-11-22T18:00:00Z web %s 1 - [kokkuri@32473 uid="%s" exe="%s"] %s`, c.tag, c.uid, c.exe, c.msg)
		e, n := p.Read([]byte(line), at("2026-11-22T18:00:10Z"))
		if e.Kind != c.kind || n.Forged != c.forged || !n.Vouched || n.Service == "" {
			t.Errorf("%s: %s, %+v", line, e.Kind, n)
		}
	}
}
