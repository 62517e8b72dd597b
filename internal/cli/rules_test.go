package cli_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/cli"
	"github.com/kokkuri/kokkuri/internal/event"
)

func withRules() *backend {
	b := full()
	b.rules = []api.Rule{
		{
			Name: "ssh-bruteforce", Services: []event.Service{event.SSH}, Kinds: []event.Kind{event.AuthFailed}, GroupBy: []string{"source", "host"}, Count: 5,
			Within: "2m", Severity: event.SeverityMedium, Action: event.ActionRedirect, FileAction: event.ActionRedirect, For: []string{"24h", "168h"}, Redirects: 2,
		},
		{
			Name: "password-spray", Kinds: []event.Kind{event.AuthFailed}, GroupBy: []string{"source"}, Count: 10, Distinct: "account",
			Within: "1h", Severity: event.SeverityHigh, Action: event.ActionAlert, FileAction: event.ActionAlert, For: []string{"24h"},
		},
	}
	b.preview = api.RulePreview{
		Rule: "password-spray", From: now().Add(-time.Hour), To: now(), Lines: 100, Events: 60, Total: 2, Redirect: 1, Spared: 1,
		Offences: []api.PreviewOffence{
			{Source: netip.MustParsePrefix("203.0.113.66/32"), Service: event.SSH, Count: 10, Last: now()},
			{Source: netip.MustParsePrefix("192.0.2.1/32"), Host: "web", Service: event.SSH, Count: 11, Last: now(), Against: "allowed: the allow-list covers 192.0.2.1/32"},
		},
	}
	return b
}

func TestRulesAreShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withRules())
	require.Equal(t, ""+
		"RULE            SERVICE  COUNT                  WITHIN  BY            ACTION    SEVERITY  LIVE\n"+
		"ssh-bruteforce  ssh      5                      2m      source, host  redirect  medium    2\n"+
		"password-spray  any      10 different accounts  1h      source        alert     high      0\n", w.ok(t, "rules ls"))
	require.Contains(t, w.ok(t, "rules show ssh-bruteforce"), "24h, 168h")
	require.Contains(t, w.ok(t, "rules ls --json"), `"group_by": [`)
	_, stderr, code := w.run(t.Context(), "rules show nobody")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, `there is no rule "nobody"`)
	require.Equal(t, "2 rules in force.\n", w.ok(t, "rules reload"))
}

// TestRedirectingIsTurnedOnKnowingly: first comes what the rule would have done; then somebody says yes, or nothing changes.
func TestRedirectingIsTurnedOnKnowingly(t *testing.T) {
	t.Parallel()
	b := withRules()
	w := newWorld(t, b)
	preview := "From 2026-11-22 17:00:00Z to 2026-11-22 18:00:00Z, in 100 lines: 2 offences, of which 1 would have been redirected and 1 not.\n"
	stdout, stderr, code := w.run(t.Context(), "rules enable password-spray --redirect")
	require.Equal(t, cli.ExitUsage, code)
	require.Contains(t, stdout, preview)
	require.Contains(t, stdout, "allowed: the allow-list covers 192.0.2.1/32")
	require.Contains(t, stderr, "nothing was changed")
	require.Equal(t, event.ActionAlert, b.rules[1].Action)

	require.Contains(t, w.ok(t, "rules enable password-spray --redirect --yes"), "password-spray redirects from now on; 0 redirects released.\n")
	require.Equal(t, event.ActionRedirect, b.rules[1].Action)
	require.Equal(t, "password-spray is disabled from now on; 0 redirects released.\n", w.ok(t, "rules disable password-spray"))
	require.True(t, b.rules[1].Disabled)
	require.Equal(t, "password-spray alerts from now on; 0 redirects released.\n", w.ok(t, "rules enable password-spray"))
	_, stderr, code = w.run(t.Context(), "rules enable nobody")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, stderr, "kokkuri rules ls lists them")
}

// TestRedirectingIsTurnedOnAtATerminal asks a person.
func TestRedirectingIsTurnedOnAtATerminal(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]event.Action{"y\n": event.ActionRedirect, "yes\n": event.ActionRedirect, "n\n": event.ActionAlert, "\n": event.ActionAlert} {
		t.Run(strings.TrimSpace(answer), func(t *testing.T) {
			t.Parallel()
			b := withRules()
			w := newWorld(t, b)
			screen := newTerminal(t)
			_, err := screen.keyboard.WriteString(answer)
			require.NoError(t, err)
			var out, errs strings.Builder
			code := cli.Kokkuri(t.Context(), cli.Env{
				Args: strings.Fields("rules enable password-spray --redirect"), Environ: []string{"KOKKURI_SOCKET=" + w.socket}, Stdin: screen.tty,
				Stdout: &out, Stderr: &errs, Now: now,
			}, w.roles)
			require.Equal(t, want == event.ActionRedirect, code == cli.ExitDone)
			require.Contains(t, out.String(), "Have password-spray redirect from now on? [y/N] ")
			require.Equal(t, want, b.rules[1].Action)
		})
	}
}
