package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// failuresOfRule is how many failures the shipped rule takes.
const failuresOfRule = 5

// Report is what an attack led to; its JSON form is a contract.
type Report struct {
	OK           bool     `json:"ok"`            // all is as it should be
	Deflected    bool     `json:"deflected"`     // the attacker's shell is in a pot
	BystandersOK bool     `json:"bystanders_ok"` // its other address and the user reach the real host
	Pot          string   `json:"pot"`
	Session      string   `json:"session"`
	Steps        []Step   `json:"steps"`
	Problems     []string `json:"problems,omitempty"` // what is not as it should be
}

// Step is one leg of the way from the log line to the shell in the pot.
type Step struct {
	Name  string    `json:"name"`
	At    time.Time `json:"at"`
	Since float64   `json:"since_start_ms"` // since the first step, in milliseconds
}

// attack is one run.
type attack struct {
	l      *Lab
	began  time.Time
	report Report

	realKey  string // host key of the real sshd
	redirect event.Redirect
	offence  event.Offence
	logged   time.Time // time of the log line that fired the rule
	password string    // that let the attacker in
	shellAt  time.Time

	firstByte, loginAt, commandsAt, uploadAt time.Time // as recorded
}

// Attack brute-forces web's real sshd from the attacker until it is deflected, and looks at what came of
// it. The error says that the attack could not be made; what is wrong with its result is in the report.
func (l *Lab) Attack(ctx context.Context) (Report, error) {
	a := &attack{l: l, report: Report{Steps: []Step{}}}
	s := &steps{l: l, n: 6}
	for _, step := range []struct {
		what string
		fn   func(context.Context) error
	}{
		{"look at the real host as its user sees it", a.prepare},
		{"guess passwords: hydra on 203.0.113.66 against root@203.0.113.10", a.guess},
		{"log in with what hydra found: ssh from 203.0.113.66", a.enter},
		{"work in the pot: a shell, a file", a.work},
		{"play the recording", a.show},
		{"ask the bystanders: 203.0.113.67 and the user 203.0.113.20", a.bystanders},
	} {
		if err := s.do(step.what, func() error { return step.fn(ctx) }); err != nil {
			return a.report, err
		}
	}
	a.finish()
	return a.report, nil
}

func (a *attack) problem(format string, args ...any) {
	a.report.Problems = append(a.report.Problems, fmt.Sprintf(format, args...))
	a.l.printf("      NOT AS IT SHOULD BE: "+format+"\n", args...)
}

func (a *attack) say(format string, args ...any) { a.l.printf("      "+format+"\n", args...) }

// prepare releases what an earlier attack led to, and notes the real host's key.
func (a *attack) prepare(ctx context.Context) error {
	r, err := a.l.RedirectOf(ctx, AttackerAddr())
	switch {
	case errors.Is(err, ErrNoRedirect):
	case err != nil:
		return err
	case r.State.Live():
		a.say("releasing the redirect of an earlier attack")
		if err := a.l.Release(ctx, AttackerAddr()); err != nil {
			return err
		}
		if _, err := a.l.WaitRedirect(ctx, AttackerAddr(), 10*time.Second, event.Released); err != nil {
			return err
		}
	}
	a.realKey, err = a.l.User.HostKey(ctx, UserAddr(), WebSSH())
	if err != nil {
		return err
	}
	a.say("its host key is %s", a.realKey)
	return nil
}

// guess lets hydra work through its word list. None of its words is a password of the real host; where it
// ends up in the pot, one of them lets it in after some were refused.
func (a *attack) guess(ctx context.Context) error {
	a.began = time.Now()
	guessing, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	out, err := a.l.Attacker.Exec(guessing, "hydra", "-I", "-t", "1", "-w", "3", "-l", PotAccount, "-P", "/usr/share/words",
		"ssh://"+WebSSH().Addr().String())
	var exit *ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	a.redirect, err = a.l.WaitRedirect(ctx, AttackerAddr(), 10*time.Second, event.Active)
	if err != nil {
		a.problem("%v", err)
		return nil
	}
	a.say("redirected to %s", a.redirect.Endpoint)
	if _, found, ok := strings.Cut(out, "password: "); ok {
		a.password, _, _ = strings.Cut(strings.TrimSpace(found), "\n")
		a.say("hydra believes that it has found root's password: %s", a.password)
	} else {
		a.problem("hydra was not let in with any password")
	}
	return a.findOffence(ctx)
}

// findOffence reads the offence from the server, and the line that fired it from the host's own log.
func (a *attack) findOffence(ctx context.Context) error {
	offences, err := a.l.OffencesOf(ctx, AttackerAddr())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(offences, func(o event.Offence) bool { return o.ID == a.redirect.OffenceID })
	if i < 0 {
		a.problem("the redirect's offence %q is not listed", a.redirect.OffenceID)
		return nil
	}
	a.offence = offences[i]
	failures, err := a.l.FailuresOf(ctx, AttackerAddr(), a.began)
	if err != nil {
		return err
	}
	if len(failures) < failuresOfRule {
		a.problem("redirected after %d failed logins, not %d", len(failures), failuresOfRule)
		return nil
	}
	a.logged = failures[failuresOfRule-1]
	return nil
}

// FailuresOf reads from web's auth.log when passwords from a source were refused since a time.
func (l *Lab) FailuresOf(ctx context.Context, source netip.Addr, since time.Time) ([]time.Time, error) {
	data, err := l.Web.ReadFile(ctx, "/var/log/auth.log")
	if err != nil {
		return nil, err
	}
	var out []time.Time
	for line := range strings.Lines(string(data)) {
		if !strings.Contains(line, "]: Failed password for ") || !strings.Contains(line, " from "+source.String()+" port ") {
			continue
		}
		stamp, _, _ := strings.Cut(line, " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			return nil, fmt.Errorf("time of the log line %q: %w", line, err)
		}
		if at.After(since) {
			out = append(out, at)
		}
	}
	return out, nil
}

// enter logs in where hydra says that it can, with the real ssh client, and looks around.
func (a *attack) enter(ctx context.Context) error {
	seen, err := a.l.Attacker.HostKey(ctx, AttackerAddr(), WebSSH())
	if err != nil {
		a.problem("the attacker gets no answer: %v", err)
		return nil
	}
	look := "date --utc +%FT%T.%NZ; hostname; id -un; cat " + realMarker + " 2>/dev/null || echo not there"
	out, err := a.l.Attacker.OpenSSH(ctx, AttackerAddr(), PotAccount, a.password, look)
	if err != nil {
		a.problem("no shell for the attacker: %v", err)
		return nil
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 4 {
		a.problem("the attacker's shell answers %q", out)
		return nil
	}
	if a.shellAt, err = time.Parse(time.RFC3339Nano, lines[0]); err != nil {
		a.problem("the attacker's shell tells the time as %q", lines[0])
	}
	a.report.Deflected = lines[3] == "not there" && seen != a.realKey
	if !a.report.Deflected {
		a.problem("the attacker is on the real host: host key %s, %s says %q", seen, realMarker, lines[3])
	}
	a.say("shell as %s on %q; host key %s", lines[2], lines[1], seen)
	return a.findSession(ctx)
}

// OpenSSH runs a command over the real ssh client, logging in with a password.
func (m *Machine) OpenSSH(ctx context.Context, from netip.Addr, account, password, command string) (string, error) {
	return m.Exec(ctx, "sshpass", "-p", password, "ssh", "-b", from.String(),
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", "ConnectTimeout=20", "-l", account, Login{From: from}.target().Addr().String(), command)
}

// findSession finds what the node recorded of this attack: the first byte that its front sent, and the
// session of the shell.
func (a *attack) findSession(ctx context.Context) error {
	var own []event.Session
	err := wait(ctx, 10*time.Second, func() (bool, error) {
		all, err := a.l.SessionsOf(ctx, AttackerAddr())
		if err != nil {
			return false, err
		}
		own = slices.DeleteFunc(all, func(s event.Session) bool {
			return s.StartedAt.Before(a.began) || s.StartedAt.After(a.shellAt) || s.EndedAt.IsZero() || s.FirstByte.IsZero()
		})
		slices.SortFunc(own, func(x, y event.Session) int { return x.StartedAt.Compare(y.StartedAt) })
		return len(own) > 0 && own[len(own)-1].EndedAt.After(a.shellAt), nil
	})
	if errors.Is(err, errDeadline) {
		a.problem("the shell's session is not recorded")
		return nil
	}
	if err != nil {
		return err
	}
	last := own[len(own)-1]
	a.report.Session, a.report.Pot = last.ID, last.PotID
	a.say("session %s in pot %.12s: %d bytes in, %d out, %s", last.ID, last.PotID, last.BytesIn, last.BytesOut,
		last.EndedAt.Sub(last.StartedAt).Round(time.Millisecond))
	left, err := a.l.API().Evidence(ctx, last.ID)
	if err != nil {
		return err
	}
	for _, e := range left {
		if e.Login != nil && e.Login.Success {
			a.loginAt = e.At
		}
	}
	a.firstByte = own[0].FirstByte
	return nil
}

func (a *attack) steps() {
	for _, s := range []Step{
		{Name: "log_written", At: a.logged},
		{Name: "event", At: a.offence.EventAt},
		{Name: "offence", At: a.offence.FiredAt},
		{Name: "lease", At: a.offence.LeasedAt},
		{Name: "redirect_active", At: a.redirect.AppliedAt},
		{Name: "front_first_byte", At: a.firstByte},
		{Name: "login", At: a.loginAt},
		{Name: "shell", At: a.shellAt},
		{Name: "commands", At: a.commandsAt},
		{Name: "upload", At: a.uploadAt},
	} {
		if s.At.IsZero() {
			a.problem("no time is known for %s", s.Name)
			continue
		}
		s.At = s.At.UTC()
		s.Since = float64(s.At.Sub(a.logged).Microseconds()) / 1000
		if n := len(a.report.Steps); n > 0 && s.At.Before(a.report.Steps[n-1].At) {
			a.problem("%s is before %s", s.Name, a.report.Steps[n-1].Name)
		}
		a.report.Steps = append(a.report.Steps, s)
	}
}

// bystanders shows that nobody else is deflected.
func (a *attack) bystanders(ctx context.Context) error {
	a.report.BystandersOK = true
	for _, b := range []struct {
		machine *Machine
		from    netip.Addr
	}{
		{a.l.Attacker, OtherAddr()},
		{a.l.User, UserAddr()},
		{a.l.Attacker, OtherAddr6()},
		{a.l.User, UserAddr6()},
	} {
		key, keyErr := b.machine.HostKey(ctx, b.from, Login{From: b.from}.target())
		out, err := b.machine.OpenSSH(ctx, b.from, UserAccount, UserPassword, "cat "+realMarker)
		if err := errors.Join(keyErr, err); err != nil || key != a.realKey || strings.TrimSpace(out) != "the real host" {
			a.report.BystandersOK = false
			a.problem("%s is not on the real host: host key %s, %s says %q, %v", b.from, key, realMarker, strings.TrimSpace(out), err)
			continue
		}
		a.say("%s is on the real host", b.from)
	}
	return nil
}

func (a *attack) finish() {
	a.steps()
	r := &a.report
	r.OK = r.Deflected && r.BystandersOK && len(r.Problems) == 0
	a.l.printf("\n  %-18s %-28s %12s %12s\n", "step", "at", "since line", "took")
	for i, s := range r.Steps {
		took := ""
		if i > 0 {
			took = fmt.Sprintf("%.1f ms", s.Since-r.Steps[i-1].Since)
		}
		a.l.printf("  %-18s %-28s %12s %12s\n", s.Name, s.At.Format("15:04:05.000000"), fmt.Sprintf("%.1f ms", s.Since), took)
	}
	switch {
	case r.OK:
		a.l.printf("\nDeflected: the attacker is in its own pot, everybody else on the real host.\n")
	default:
		a.l.printf("\nNOT as it should be:\n")
		for _, p := range r.Problems {
			a.l.printf("  - %s\n", p)
		}
	}
}
