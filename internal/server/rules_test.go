package server

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
)

// ruleNamed asks for a rule as the commands do.
func (s *site) ruleNamed(name string) api.Rule {
	s.t.Helper()
	r, err := api.Show[api.Rule](s.t.Context(), s.api, api.PathRules, name)
	require.NoError(s.t, err)
	return r
}

// send publishes ssh lines of a host, at this moment.
func (s *site) send(host string, messages ...string) {
	s.t.Helper()
	b := event.Batch{Host: host, Road: event.RoadAgent, Origin: "/var/log/auth.log", Received: time.Now()}
	for _, m := range messages {
		s.sent++
		b.Lines = append(b.Lines, fmt.Appendf(nil, "%s %s sshd[%d]: %s", time.Now().Format(time.RFC3339Nano), host, s.sent, m))
	}
	b.ID = fmt.Sprint("sent-", s.sent)
	require.NoError(s.t, s.server.conn.PublishBatch(s.t.Context(), b))
}

func guesses(source string, accounts ...string) []string {
	var out []string
	for i, a := range accounts {
		out = append(out, fmt.Sprintf("Failed password for %s from %s port %d ssh2", a, source, 4000+i))
	}
	return out
}

// TestRuleIsTurnedOn: a shipped rule alerts until an operator, who sees what it would have done, has it redirect; that
// holds after a restart, and whatever the file says.
func TestRuleIsTurnedOn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	const rule = "source-many-hosts"
	none, err := s.api.PreviewRule(ctx, rule)
	require.NoError(t, err)
	require.Zero(t, none.Lines, "there are no lines yet")
	for _, host := range []string{"web", "db", "mail"} {
		s.send(host, guesses("192.0.2.66", "root")...)
	}
	s.evaluated()
	require.Empty(t, s.got(), "as shipped it alerts")
	offences, err := api.List[event.Offence](ctx, s.api, api.PathOffences, api.Filter{})
	require.NoError(t, err)
	require.Len(t, offences, 1)
	require.Equal(t, event.SeverityHigh, offences[0].Severity)
	require.Equal(t, "alert", offences[0].Outcome)

	_, err = s.api.AllowAdd(ctx, netip.MustParsePrefix("192.0.2.200/32"), "")
	require.NoError(t, err)
	for _, host := range []string{"web", "db", "mail"} {
		s.send(host, guesses("192.0.2.200", "root")...)
	}
	s.evaluated()
	p, err := s.api.PreviewRule(ctx, rule)
	require.NoError(t, err)
	require.Equal(t, 6, p.Lines)
	require.Equal(t, []int{2, 1, 1}, []int{p.Total, p.Redirect, p.Spared})
	require.Equal(t, netip.MustParsePrefix("192.0.2.66/32"), p.Offences[0].Source)
	require.Contains(t, p.Offences[0].Line, "Failed password for root from 192.0.2.66")
	require.Equal(t, "allowed: the allow-list covers 192.0.2.200/32", p.Offences[1].Against)
	require.Empty(t, s.server.decider.Board().Live(nil), "a preview does nothing")

	set, err := s.api.SetRule(ctx, rule, api.SetRule{Redirect: true})
	require.NoError(t, err)
	require.Equal(t, event.ActionRedirect, set.Rule.Action)
	require.Equal(t, event.ActionAlert, set.Rule.FileAction)
	s.stop()
	s.start()
	require.True(t, s.ruleNamed(rule).Overridden, "a restart forgets nothing")
	for _, host := range []string{"web", "db", "mail"} {
		s.send(host, guesses("192.0.2.66", "root")...)
	}
	s.evaluated()
	live := s.server.decider.Board().Live(nil)
	require.NotEmpty(t, live, "who offended before is met at the next offence")
	for _, r := range live {
		require.Equal(t, rule, r.Rule)
		require.Equal(t, live[0].OffenceID, r.OffenceID)
	}
	require.Equal(t, len(live), s.ruleNamed(rule).Redirects)

	off, err := s.api.SetRule(ctx, rule, api.SetRule{Disabled: true})
	require.NoError(t, err)
	require.Len(t, off.Released, len(live), "what a rule redirected is released with it")
	require.Empty(t, s.server.decider.Board().Live(nil))
	require.True(t, s.ruleNamed(rule).Disabled)
	for _, host := range []string{"web", "db", "mail"} {
		s.send(host, guesses("192.0.2.67", "root")...)
	}
	s.evaluated()
	offences, err = api.List[event.Offence](ctx, s.api, api.PathOffences, api.Filter{Source: netip.MustParsePrefix("192.0.2.67/32")})
	require.NoError(t, err)
	require.Empty(t, offences)
	back, err := s.api.SetRule(ctx, rule, api.SetRule{})
	require.NoError(t, err)
	require.False(t, back.Rule.Overridden)

	_, err = s.api.SetRule(ctx, "nobody", api.SetRule{})
	require.ErrorContains(t, err, `there is no rule "nobody"`)
	_, err = s.api.PreviewRule(ctx, "nobody")
	require.ErrorContains(t, err, `there is no rule "nobody"`)
}

// TestReleasingOneReleasesItsOffence: one offence redirects several services; who releases one of them releases all.
func TestReleasingOneReleasesItsOffence(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	path := filepath.Join(s.dir, "rules.yaml")
	writeRules(t, path, "trapped-services", 3)
	s.stop()
	s.conf.Rules = path
	s.start()
	_, err := bus.Request[event.HostStatus, struct{}](ctx, s.host, bus.StatusSubject("web"), event.HostStatus{
		Services: []event.HostPort{{Service: event.SSH, Port: 22}, {Service: event.MySQL, Port: 3306}, {Service: event.Redis, Port: 6379}},
	})
	require.NoError(t, err)
	node := s.dial(pki.RoleNode, "node2")
	defer node.Close()
	unserve, err := bus.Serve(node, bus.LeaseSubject("node2"), func(_ context.Context, _ string, r event.LeaseRequest) (event.LeaseReply, error) {
		return event.LeaseReply{Lease: event.Lease{ID: "l2", Attacker: r.Attacker, Node: "node2", Endpoint: netip.MustParseAddrPort("198.51.100.21:20001")}}, nil
	})
	require.NoError(t, err)
	defer unserve()
	_, err = bus.Request[event.NodeStatus, event.NodeDesired](ctx, node, bus.NodesSubject("node2"), event.NodeStatus{
		Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.21")}, Services: []event.Service{event.MySQL},
	})
	require.NoError(t, err)
	s.fail("192.0.2.66", 3)
	s.evaluated()
	live := s.server.decider.Board().Live(nil)
	require.Len(t, live, 2, "ssh, and mysql, which the host's agent permits and a node offers; not redis")
	released, err := s.api.Release(ctx, live[1].ID)
	require.NoError(t, err)
	require.Len(t, released, 2)
	require.Empty(t, s.server.decider.Board().Live(nil))
	s.fail("192.0.2.66", 3)
	s.evaluated()
	require.Len(t, s.server.decider.Board().Live(nil), 2, "and it may offend again")
}

func writeRules(t *testing.T, path, scope string, count int) {
	t.Helper()
	text := fmt.Sprintf("version: 1\nrules:\n  - name: mine\n    service: ssh\n    group_by: [source, host]\n    count: %d\n    within: 10m\n    scope: %s\n    action: redirect\n    for: 1h\n", count, scope)
	next := path + ".new"
	require.NoError(t, os.WriteFile(next, []byte(text), 0o600))
	require.NoError(t, os.Rename(next, path))
}

// TestReload: by command, by signal and by itself when the file changes; windows stay; a bad file changes nothing and is told.
func TestReload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	path := filepath.Join(s.dir, "rules.yaml")
	writeRules(t, path, "service", 9)
	s.stop()
	s.conf.Rules = path
	reload := make(chan struct{})
	s.reload = reload
	s.start()
	s.fail("192.0.2.66", 4)
	s.evaluated()

	require.NoError(t, os.WriteFile(path, []byte("version: 1\nrules:\n  - name: mine\n    service: gopher\n"), 0o600))
	_, err := s.api.ReloadRules(ctx)
	require.ErrorContains(t, err, path+`:4: rules[0].service: found "gopher"; allowed: any, ssh`)
	require.Equal(t, 9, s.ruleNamed("mine").Count, "the former rules hold")
	st, err := s.api.Status(ctx)
	require.NoError(t, err)
	var told string
	for _, f := range st.Findings {
		if f.Subject == "rules" {
			told = f.Text
		}
	}
	require.Contains(t, told, "gopher")

	writeRules(t, path, "service", 8)
	reload <- struct{}{} // SIGHUP
	s.hasCount(8)
	writeRules(t, path, "service", 7) // nobody tells
	s.hasCount(7)
	require.NoError(t, os.WriteFile(path, []byte("no: rules"), 0o600))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		st, err := s.api.Status(ctx)
		require.NoError(c, err)
		var texts []string
		for _, f := range st.Findings {
			texts = append(texts, f.Text)
		}
		assert.Contains(c, strings.Join(texts, "\n"), "an unknown key")
	}, time.Minute, 5*time.Millisecond)
	require.Equal(t, 7, s.ruleNamed("mine").Count)
	writeRules(t, path, "service", 5)
	out, err := s.api.ReloadRules(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, out.Rules)
	st, err = s.api.Status(ctx)
	require.NoError(t, err)
	for _, f := range st.Findings {
		require.NotEqual(t, "rules", f.Subject, f.Text)
	}
	require.Empty(t, s.got())
	s.fail("192.0.2.66", 1)
	s.evaluated()
	require.Len(t, s.server.decider.Board().Live(nil), 1, "the four guesses from before the reloads count")
}

func (s *site) hasCount(n int) {
	s.t.Helper()
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		r, err := api.Show[api.Rule](s.t.Context(), s.api, api.PathRules, "mine")
		require.NoError(c, err)
		assert.Equal(c, n, r.Count)
	}, time.Minute, 5*time.Millisecond)
}

// TestRotatedDatabasePassword is decision 11 over the whole server: an application server whose database password was rotated is
// alerted on, not redirected; as shipped nothing but ssh redirects anybody.
func TestRotatedDatabasePassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, r := range s.server.pipeline.rules.Rules {
		if r.Action == event.ActionRedirect {
			require.Equal(t, []event.Service{event.SSH}, r.Services, r.Name)
		}
	}
	b := event.Batch{Host: "web", Road: event.RoadAgent, Origin: "/var/log/mysql/error.log", Received: time.Now(), ID: "rotated"}
	for i := range 30 {
		b.Lines = append(b.Lines, fmt.Appendf(nil, "%s web mariadbd[1]: %s %d [Warning] Access denied for user 'shop'@'192.0.2.80' (using password: YES)",
			time.Now().Format(time.RFC3339Nano), time.Now().UTC().Format("2006-01-02 15:04:05"), 31+i))
	}
	require.NoError(t, s.host.PublishBatch(t.Context(), b))
	s.evaluated()
	offences, err := api.List[event.Offence](t.Context(), s.api, api.PathOffences, api.Filter{})
	require.NoError(t, err)
	require.NotEmpty(t, offences)
	for _, o := range offences {
		require.Equal(t, "alert", o.Outcome, o.Rule)
	}
	require.Empty(t, s.got())
	require.Empty(t, s.server.decider.Board().Live(nil))
}
