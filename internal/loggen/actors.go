package loggen

import (
	"fmt"
	"time"
)

// actor begins what happens next: an attack, as long as less than a third of the lines are failures, or else something of everyday.
func (g *generator) actor() actor {
	h := g.hosts[g.rng.IntN(len(g.hosts))]
	h.pid += 1 + g.rng.IntN(7)
	if h.pid > 4_000_000 {
		h.pid = 1000
	}
	a := actor{host: h, pid: h.pid}
	if 3*(g.truth.Failures+g.pendingFailures()) < g.truth.Lines+10 {
		a.source = g.attacker(h)
		g.attack(&a)
	} else {
		g.everyday(&a)
	}
	return a
}

// pendingFailures are those that actors will still write.
func (g *generator) pendingFailures() int {
	n := 0
	for i := range g.actors {
		for _, l := range g.actors[i].lines {
			if l.failure {
				n++
			}
		}
	}
	return n
}

// attacker picks one that may guess now.
func (g *generator) attacker(h *host) *source {
	for {
		s := g.sources[g.rng.IntN(len(g.sources))]
		if !s.slow {
			return s
		}
		// Slow ones guess once in a time, with room for that their lines come late.
		if last, ok := s.last[h]; !ok || g.now.Sub(last) > offenceTime {
			s.last[h] = g.now
			return s
		}
	}
}

func (a *actor) say(format string, args ...any) {
	a.lines = append(a.lines, line{tag: a.host.tag, text: fmt.Sprintf(format, args...)})
}

// by makes the last line another program's.
func (a *actor) by(tag string) { a.lines[len(a.lines)-1].tag = tag }

// fails makes the last line the one that states n guesses.
func (a *actor) fails(n int) {
	l := &a.lines[len(a.lines)-1]
	l.failure, l.guesses = true, n
}

// restates makes the last line one that says again what another said.
func (a *actor) restates() { a.lines[len(a.lines)-1].failure = true }

func (g *generator) port() int { return 1024 + g.rng.IntN(64000) }

func pick[T any](g *generator, list ...T) T { return list[g.rng.IntN(len(list))] }

// attack is a connection of a guesser.
func (g *generator) attack(a *actor) {
	guesses := 2 + g.rng.IntN(5)
	if a.source.slow {
		guesses = 1
	}
	switch k := g.rng.IntN(100); {
	case k < 22:
		g.unknownUser(a, guesses)
	case k < 88:
		g.knownUser(a, guesses)
	case k < 94:
		g.prompts(a, guesses)
	default:
		g.probe(a)
		g.probe(a)
	}
}

// unknownUser guesses passwords of an account that does not exist.
func (g *generator) unknownUser(a *actor, guesses int) {
	user, s, p := g.name(), a.source.addr, g.port()
	a.say("Invalid user %s from %s port %d", user, s, p)
	for i := range guesses {
		a.say("pam_unix(sshd:auth): check pass; user unknown")
		if i == 0 {
			a.say("pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=%s ", s)
		}
		a.say("Failed password for invalid user %s from %s port %d ssh2", user, s, p)
		a.fails(1)
	}
	if guesses == 6 {
		g.limit(a, "invalid user "+user, s, p)
	} else {
		g.leave(a, "invalid user "+user, s, p)
	}
	if guesses > 1 {
		a.say("PAM %d more authentication failure%s; logname= uid=0 euid=0 tty=ssh ruser= rhost=%s ", guesses-1, plural(guesses-1), s)
	}
}

// knownUser guesses passwords of one that does. Where sshd says the same again, rsyslog may say so.
func (g *generator) knownUser(a *actor, guesses int) {
	user, s, p := pick(g, "root", "root", "root", "alice", "backup", "postgres"), a.source.addr, g.port()
	if a.host.v10 {
		a.say("password check failed for user (%s)", user)
		a.by("unix_chkpwd")
	}
	a.say("pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=%s  user=%s", s, user)
	a.say("Failed password for %s from %s port %d ssh2", user, s, p)
	a.fails(1)
	switch {
	case guesses > 2 && g.rng.IntN(4) == 0:
		a.say("message repeated %d times: [ Failed password for %s from %s port %d ssh2]", guesses-1, user, s, p)
		a.fails(guesses - 1)
	default:
		for range guesses - 1 {
			a.say("Failed password for %s from %s port %d ssh2", user, s, p)
			a.fails(1)
		}
	}
	if guesses == 6 {
		g.limit(a, "authenticating user "+user, s, p)
	} else {
		g.leave(a, "authenticating user "+user, s, p)
	}
	if guesses > 1 {
		a.say("PAM %d more authentication failure%s; logname= uid=0 euid=0 tty=ssh ruser= rhost=%s  user=%s", guesses-1, plural(guesses-1), s, user)
	}
}

// prompts guesses at PAM's prompt, which sshd states in two lines.
func (g *generator) prompts(a *actor, guesses int) {
	s, p := a.source.addr, g.port()
	if g.rng.IntN(2) == 0 {
		user := g.name()
		a.say("Invalid user %s from %s port %d", user, s, p)
		for range guesses {
			a.say("pam_unix(sshd:auth): check pass; user unknown")
			a.say("error: PAM: User not known to the underlying authentication module for illegal user %s from %s", user, s)
			a.restates()
			a.say("Failed keyboard-interactive/pam for invalid user %s from %s port %d ssh2", user, s, p)
			a.fails(1)
		}
		g.leave(a, "invalid user "+user, s, p)
		return
	}
	for i := range guesses {
		a.say("pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=%s  user=root", s)
		a.say("error: PAM: Authentication failure for root from %s", s)
		a.fails(1)
		if i >= 3 { // from half of MaxAuthTries on
			a.say("Failed keyboard-interactive/pam for root from %s port %d ssh2", s, p)
			a.restates()
		}
	}
	g.leave(a, "authenticating user root", s, p)
}

// limit is what sshd says when there were too many failures.
func (g *generator) limit(a *actor, who, s string, p int) {
	account := who
	if rest, ok := trim(who, "authenticating user "); ok {
		account = rest
	}
	a.say("error: maximum authentication attempts exceeded for %s from %s port %d ssh2 [preauth]", account, s, p)
	a.say("Disconnecting %s %s port %d: Too many authentication failures [preauth]", who, s, p)
}

func trim(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return s, false
	}
	return s[len(prefix):], true
}

// leave is how a guesser goes.
func (g *generator) leave(a *actor, who, s string, p int) {
	switch g.rng.IntN(4) {
	case 0:
		a.say("Received disconnect from %s port %d:11: Bye Bye [preauth]", s, p)
		a.say("Disconnected from %s %s port %d [preauth]", who, s, p)
	case 1:
		a.say("Connection reset by %s %s port %d [preauth]", who, s, p)
	default:
		a.say("Connection closed by %s %s port %d [preauth]", who, s, p)
	}
}

// probe is a connection that guesses nothing.
func (g *generator) probe(a *actor) {
	s, p := a.source.addr, g.port()
	switch g.rng.IntN(6) {
	case 0:
		a.say("error: kex_exchange_identification: Connection closed by remote host")
		a.say("Connection closed by %s port %d", s, p)
	case 1:
		a.say("banner exchange: Connection from %s port %d: invalid format", s, p)
	case 2:
		a.say("Unable to negotiate with %s port %d: no matching key exchange method found. Their offer: diffie-hellman-group1-sha1 [preauth]", s, p)
	case 3:
		a.say("Connection closed by %s port %d [preauth]", s, p)
	case 4:
		a.say("Failed publickey for root from %s port %d ssh2: ED25519 SHA256:R4Qj2wWjRPpwpnY0tYl2sKkvMZbBkjKsqUK2Rul5X8%c", s, p, 'a'+rune(g.rng.IntN(26)))
		a.say("Connection closed by authenticating user root %s port %d [preauth]", s, p)
	default:
		a.say("Received disconnect from %s port %d:11: [preauth]", s, p)
		a.say("Disconnected from authenticating user root %s port %d [preauth]", s, p)
	}
}

func (g *generator) name() string {
	return pick(g, "admin", "test", "oracle", "ubuntu", "user", "git", "ftpuser", "guest", "deploy", "minecraft", "es", "nagios") +
		pick(g, "", "", "1", "2", "01", fmt.Sprint(g.rng.IntN(1000)))
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// everyday is what a log is full of.
func (g *generator) everyday(a *actor) {
	switch k := g.rng.IntN(100); {
	case k < 40:
		g.session(a)
	case k < 65:
		a.say("pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)")
		a.by("CRON")
		a.say("(root) CMD (command -v debian-sa1 > /dev/null && debian-sa1 1 1)")
		a.by("CRON")
		a.say("pam_unix(cron:session): session closed for user root")
		a.by("CRON")
	case k < 75:
		a.pid = 1
		unit := pick(g, "apt-daily.service - Daily apt download activities", "logrotate.service - Rotate log files", "sysstat-collect.service - system activity accounting tool")
		for _, what := range []string{"Starting", "Finished"} {
			a.say("%s %s.", what, unit)
			a.by("systemd")
		}
	case k < 87:
		a.say("[%d.%06d] [UFW BLOCK] IN=eth0 OUT= MAC=02:42:ac:11:00:02:02:42:ac:11:00:01:08:00 SRC=198.51.100.%d DST=192.0.2.10 LEN=40 TOS=0x00 PREC=0x00 TTL=243 ID=%d PROTO=TCP SPT=%d DPT=%d WINDOW=1024 RES=0x00 SYN URGP=0",
			g.now.Sub(g.o.Begin)/time.Second, g.rng.IntN(1e6), 1+g.rng.IntN(254), g.rng.IntN(65536), g.port(), g.rng.IntN(65536))
		a.by("kernel")
	default:
		user := pick(g, "alice", "bob")
		a.say("%8s : TTY=pts/%d ; PWD=/home/%s ; USER=root ; COMMAND=/usr/bin/apt-get update", user, g.rng.IntN(5), user)
		a.by("sudo")
		a.say("pam_unix(sudo:session): session opened for user root(uid=0) by %s(uid=1000)", user)
		a.by("sudo")
		a.say("pam_unix(sudo:session): session closed for user root")
		a.by("sudo")
	}
}

// session is a rightful login and what follows it.
func (g *generator) session(a *actor) {
	n := g.rng.IntN(people)
	user, s, p := person(n), fmt.Sprintf("192.0.2.%d", 20+n), g.port()
	a.source = &source{addr: s}
	a.host.sess++
	sess, logind := a.host.sess, "systemd-logind"
	method, end := "publickey", ": ED25519 SHA256:R4Qj2wWjRPpwpnY0tYl2sKkvMZbBkjKsqUK2Rul5X8w"
	if g.rng.IntN(10) == 0 {
		method, end = "password", ""
	}
	a.say("Accepted %s for %s from %s port %d ssh2%s", method, user, s, p, end)
	a.lines[len(a.lines)-1].login = true
	a.say("pam_unix(sshd:session): session opened for user %s(uid=%d) by %s(uid=0)", user, 1000+n, user)
	a.say("New session %d of user %s.", sess, user)
	a.by(logind)
	a.say("Started session-%d.scope - Session %d of User %s.", sess, sess, user)
	a.by("systemd")
	a.say("Received disconnect from %s port %d:11: disconnected by user", s, p)
	a.say("Disconnected from user %s %s port %d", user, s, p)
	a.say("pam_unix(sshd:session): session closed for user %s", user)
	a.say("session-%d.scope: Deactivated successfully.", sess)
	a.by("systemd")
	a.say("Session %d logged out. Waiting for processes to exit.", sess)
	a.by(logind)
	a.say("Removed session %d.", sess)
	a.by(logind)
}

const people = 5 // who log in rightfully

func person(n int) string { return [people]string{"alice", "bob", "carol", "dave", "erin"}[n] }
