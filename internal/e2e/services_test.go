package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/lab"
)

// inPot requires that a service's real client, used by the attacker, is in a pot that runs that service.
func inPot(t *testing.T, from netip.Addr, service event.Service) {
	t.Helper()
	account, password := lab.PotLogin(service)
	passwords := []string{password}
	if password == "" { // its front decides, and refuses the first ones
		passwords = guesses()
	}
	var isReal bool
	var err error
	for _, p := range passwords {
		if isReal, err = the.Attacker.Visit(t.Context(), from, service, account, p); !errors.Is(err, lab.ErrRefused) {
			break
		}
	}
	require.NoError(t, err)
	require.False(t, isReal, "%s: %s is on the real host", service, from)
	account, password = lab.UserLogin(service)
	_, err = the.Attacker.Visit(t.Context(), from, service, account, password)
	require.ErrorIs(t, err, lab.ErrRefused, "the pot does not know the real host's passwords")
}

// onRealService requires that a service's real client, used by somebody else, is on the real host.
func onRealService(t *testing.T, m *lab.Machine, from netip.Addr, service event.Service) {
	t.Helper()
	account, password := lab.UserLogin(service)
	isReal, err := m.Visit(t.Context(), from, service, account, password)
	require.NoError(t, err)
	require.True(t, isReal, "%s: %s is not on the real host", service, from)
}

// Each of web's services, by its real client over IPv4 and IPv6: redirected by hand, the attacker is in the service of
// its pot, the same one for all services, and nobody else is.
func TestEveryServiceIsRedirectedToAPotThatRunsIt(t *testing.T) {
	for _, family := range []struct {
		name        string
		from        netip.Addr
		other, user netip.Addr
	}{
		{"IPv4", source(t), lab.OtherAddr(), lab.UserAddr()},
		{"IPv6", source6(t), lab.OtherAddr6(), lab.UserAddr6()},
	} {
		t.Run(family.name, func(t *testing.T) {
			for _, service := range lab.Services() {
				text, code := kokkuri(t, "redirects", "add", family.from.String(), "--service", string(service), "--host", lab.HostName)
				require.Zero(t, code, text)
				_, err := the.WaitDeflected(t.Context(), family.from, service, soon)
				require.NoError(t, err)
				inPot(t, family.from, service)
				onRealService(t, the.Attacker, family.other, service)
				onRealService(t, the.User, family.user, service)
			}
			var sessions []event.Session
			eventually(t, "all sessions have ended", func() (bool, error) {
				var err error
				sessions, err = the.SessionsOf(t.Context(), family.from)
				return !slices.ContainsFunc(sessions, func(s event.Session) bool {
					return s.Service != event.ServicePot && s.EndedAt.IsZero()
				}), err
			})
			met := map[event.Service]string{}
			for _, s := range sessions {
				if s.Service == event.ServicePot {
					continue
				}
				met[s.Service] = s.PotID
				assert.Positive(t, s.BytesOut, "%s", s.Service)
			}
			pot := potOf(t, family.from)
			for _, service := range lab.Services() {
				assert.Equal(t, pot.ID, met[service], "%s is in the attacker's one pot", service)
			}
			release(t, family.from)
			for _, service := range lab.Services() {
				onRealService(t, the.Attacker, family.from, service)
			}
		})
	}
}

// ruleOf is the shipped rule that counts guesses at a service.
func ruleOf(service event.Service) string { return string(service) + "-bruteforce" }

// guesses are wrong passwords that attackers try often, more than any shipped rule takes.
func guesses() []string {
	return []string{"123456", "password", "qwerty", "abc123", "111111", "letmein", "dragon", "monkey", "sunshine", "princess", "football", "iloveyou"}
}

// offenceOf waits for a source's offence by a rule.
func offenceOf(t *testing.T, from netip.Addr, rule string) (found event.Offence) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is an offender by %s", from, rule), func() (bool, error) {
		offences, err := the.OffencesOf(t.Context(), from)
		for _, o := range offences {
			if o.Rule == rule {
				found = o
			}
		}
		return found.ID != "", fmt.Errorf("%+v, %w", offences, err)
	})
	return found
}

// redirecting has a shipped rule redirect until the test ends, as an operator would.
func redirecting(t *testing.T, rule string) {
	t.Helper()
	text, code := kokkuri(t, "rules", "enable", rule, "--redirect", "--yes")
	require.Zero(t, code, text)
	t.Cleanup(func() {
		text, code := kokkuri(t, "rules", "enable", rule) // as its file says
		assert.Zero(t, code, text)
	})
}

// guessUntil makes one wrong guess after the other until done says so. Redis tells of several guesses between two looks
// at its ACL LOG only how many there were, and whose the last was: so it may take more than the rule counts.
func guessUntil(t *testing.T, from netip.Addr, service event.Service, account string, done func() bool) {
	t.Helper()
	for i := range 100 {
		_, err := the.Attacker.Visit(t.Context(), from, service, account, fmt.Sprintf("wrong-%d", i))
		require.Error(t, err) // refused, or cut by the redirect
		if done() {
			return
		}
	}
}

// guessUntilDeflected makes wrong guesses until the source is redirected.
func guessUntilDeflected(t *testing.T, from netip.Addr, service event.Service, account string) event.Redirect {
	t.Helper()
	guessUntil(t, from, service, account, func() bool {
		r, err := the.RedirectOf(t.Context(), from, service)
		return err == nil && r.State == event.Active
	})
	r, err := the.WaitDeflected(t.Context(), from, service, soon)
	require.NoError(t, err)
	return r
}

// Wrong passwords at each of web's services, by its real client: as shipped they lead to an offence and no more; once
// an operator has the rule redirect, to the service in the attacker's own pot.
func TestBruteForceOfEveryService(t *testing.T) {
	for _, service := range lab.Services() {
		t.Run(string(service), func(t *testing.T) {
			account, _ := lab.PotLogin(service)
			alerted := source(t)
			guessUntil(t, alerted, service, account, func() bool {
				offences, err := the.OffencesOf(t.Context(), alerted)
				return err == nil && len(offences) > 0
			})
			o := offenceOf(t, alerted, ruleOf(service))
			assert.Equal(t, service, o.Service)
			assert.Equal(t, event.ActionAlert, o.Action)
			untouched(t, alerted)

			redirecting(t, ruleOf(service))
			for _, from := range []netip.Addr{source(t), source6(t)} {
				assert.Equal(t, ruleOf(service), guessUntilDeflected(t, from, service, account).Rule)
				inPot(t, from, service)
			}
			onRealService(t, the.Attacker, lab.OtherAddr(), service)
			onRealService(t, the.User, lab.UserAddr(), service)
			onRealService(t, the.User, lab.UserAddr6(), service)
			untouched(t, alerted)
		})
	}
}

// An application whose password was changed under it goes on with the old one: it is alerted on, and stays where it is,
// also where guessing at its service redirects, if the service's log has told of its logins. MariaDB's does not.
func TestRotatedPasswordIsAlertedOn(t *testing.T) {
	const before, after = "before the rotation", "after the rotation"
	const mysql = `mariadb -e "ALTER USER app@'%%' IDENTIFIED BY '%s'"`
	const postgres = `runuser -u postgres -- psql -qc "ALTER USER app PASSWORD '%s'"`
	for _, db := range []struct {
		name     string
		service  event.Service
		rotate   string // with the new password
		redirect bool
		outcome  string
	}{
		{"mysql", event.MySQL, mysql, false, "alert"},
		{"postgres", event.Postgres, postgres, false, "alert"},
		{"postgres that redirects", event.Postgres, postgres, true, "exempt"},
	} {
		t.Run(db.name, func(t *testing.T) {
			if db.redirect {
				redirecting(t, ruleOf(db.service))
			}
			from := source(t)
			isReal, err := the.Attacker.Visit(t.Context(), from, db.service, "app", before)
			require.NoError(t, err)
			require.True(t, isReal)
			t.Cleanup(func() {
				_, err := the.Web.Shell(context.WithoutCancel(t.Context()), fmt.Sprintf(db.rotate, before))
				assert.NoError(t, err)
			})
			_, err = the.Web.Shell(t.Context(), fmt.Sprintf(db.rotate, after))
			require.NoError(t, err)
			for range guesses() {
				_, err := the.Attacker.Visit(t.Context(), from, db.service, "app", before)
				require.ErrorIs(t, err, lab.ErrRefused)
			}
			o := offenceOf(t, from, ruleOf(db.service))
			assert.Equal(t, db.service, o.Service)
			assert.Contains(t, o.Outcome, db.outcome)
			pipelineDrained(t)
			untouched(t, from)
			isReal, err = the.Attacker.Visit(t.Context(), from, db.service, "app", after)
			require.NoError(t, err)
			assert.True(t, isReal, "it is where it was")
		})
	}
}

// A scanner is told the same of each service by the host and by the pot.
func TestScannerTellsNoDifference(t *testing.T) {
	found := func(from netip.Addr) (ports []string) {
		t.Helper()
		out, err := the.Attacker.Scan(t.Context(), from)
		require.NoError(t, err)
		for line := range strings.Lines(out) {
			if strings.Contains(line, "/tcp ") || strings.HasPrefix(line, "SF") || strings.HasPrefix(line, "Service Info") {
				ports = append(ports, regexp.MustCompile(`%D=[^%]*%Time=[^%]*`).ReplaceAllString(strings.TrimSpace(line), ""))
			}
		}
		return ports
	}
	host, deflected := source(t), source(t)
	straight := found(host)
	require.Len(t, regexp.MustCompile(`/tcp +open `).FindAllString(strings.Join(straight, "\n"), -1), len(lab.Services())+1, "%q", straight)
	for _, service := range append(lab.Services(), event.SSH) {
		text, code := kokkuri(t, "redirects", "add", deflected.String(), "--service", string(service), "--host", lab.HostName)
		require.Zero(t, code, text)
		_, err := the.WaitDeflected(t.Context(), deflected, service, soon)
		require.NoError(t, err)
	}
	assert.Equal(t, straight, found(deflected))
	release(t, deflected)
}
