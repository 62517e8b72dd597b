package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/bus/broker"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/pki"
)

// allCounters are the server's own with those of its parts.
func (s *Server) allCounters(bus broker.Stats) map[string]map[string]int64 {
	out := s.counters.snapshot()
	set := func(name, label string, n int64) {
		if n == 0 {
			return
		}
		if out[name] == nil {
			out[name] = map[string]int64{}
		}
		out[name][label] = n
	}
	conn := s.conn.Counters()
	for label, n := range map[string]uint64{
		"lost": conn.Lost, "malformed": conn.Malformed, "refused": conn.Refused, "dropped": conn.Dropped,
		"discarded_logs": bus.Logs.Discarded, "discarded_sessions": bus.Sessions.Discarded, "refused_connections": bus.Refused,
	} {
		set("bus", label, int64(n))
	}
	set("tail", "dropped", s.tail.dropped.Load())
	for name, n := range s.pipeline.drops() {
		set("detect", name, n)
	}
	for name, n := range s.intake.Stats().Counters() {
		set("intake", name, n)
	}
	for _, h := range s.hosts.all() {
		for name, n := range h.Status.Counts {
			set("agent_"+name, h.Name, n)
		}
	}
	return out
}

// findings are what the server has to say of itself and what it heard of hosts and nodes.
func (s *Server) findings(ctx context.Context) []event.Finding {
	out := []event.Finding{}
	warn := func(subject, text, mend string) {
		out = append(out, event.Finding{Level: "warning", Subject: subject, Text: text, Mend: mend})
	}
	if s.decider.Paused() {
		warn("pause", "nothing is redirected", "kokkuri resume")
	}
	if s.opts.Config.DryRun {
		warn("dry-run", "offences are recorded, nobody is redirected", "remove server.dry_run")
	}
	connected := 0
	for _, n := range s.nodes.all() {
		if s.nodes.connected(n) {
			connected++
		} else {
			warn("node "+n.Node, "not heard of since "+n.At.UTC().Format(time.RFC3339), "start it: kokkuri honeypot; or forget it: kokkuri nodes rm "+n.Node)
		}
		for _, f := range n.Findings {
			f.Subject = "node " + n.Node + ": " + f.Subject
			out = append(out, f)
		}
	}
	if connected == 0 {
		out = append(out, event.Finding{Level: "error", Subject: "nodes", Text: "no honeypot node is connected: nobody can be redirected", Mend: "kokkuri enroll --node NAME, then kokkuri honeypot on the node"})
	}
	for _, h := range s.hosts.all() {
		if h.Enrolled && time.Since(h.LastSeen) >= hostTimeout {
			warn("host "+h.Name, "its agent was not heard of lately", "start it: kokkuri-agent run; or forget it: kokkuri hosts rm "+h.Name)
		}
		if s.decider.Tripped(h.Name) {
			out = append(out, event.Finding{Level: "error", Subject: "host " + h.Name, Text: "the breaker stopped redirecting: too many sources offended within an hour", Mend: "see kokkuri offences ls; kokkuri resume closes it"})
		}
		for _, f := range slices.Concat(h.Status.Findings, s.senderFindings(h.Name)) {
			f.Subject = "host " + h.Name + ": " + f.Subject
			out = append(out, f)
		}
	}
	out = append(out, s.intake.Findings()...)
	if n := s.conn.Counters().Malformed; n > 0 {
		warn("bus", fmt.Sprintf("since the server started %d messages were of a form that this server (%s) does not know; log lines in them are not evaluated", n, s.opts.Version),
			"update the server to the version of its newest agent or node (kokkuri hosts show, kokkuri nodes show); the server goes first")
	}
	for name, until := range s.ca.Expiring(pki.RoleSyslog, renewSyslogBefore) {
		warn("syslog of "+name, "its certificate expires on "+until.UTC().Format(time.DateOnly), "kokkuri rsyslog-config "+name+" --certificate DIR, copy the files, restart its rsyslog")
	}
	out = append(out, toldOnce(s.pipeline.lineFindings(), func(name string) []event.Finding {
		h, _ := s.hosts.get(name)
		return h.Status.Findings
	})...)
	out = append(out, s.rules.findings()...)
	out = append(out, s.personas.findings(ctx)...)
	out = append(out, detectFindings(s.pipeline.drops())...)
	for _, label := range s.pipeline.secondRoads() {
		host, road, _ := strings.Cut(label, " ")
		warn("host "+host, "events come by a second road ("+road+") and are not evaluated", "send each log by one road, or choose one with server.hosts[].road")
	}
	return out
}

// renewSyslogBefore is how long before its end a certificate that is renewed by hand is warned of.
const renewSyslogBefore = 30 * 24 * time.Hour

// senderFindings are what the server has to say of the lines of a host.
func (s *Server) senderFindings(host string) []event.Finding {
	var out []event.Finding
	if n := s.intake.QuarantinedOf(host); n > 0 {
		out = append(out, event.Finding{
			Level: "warning", Subject: "syslog", Text: fmt.Sprintf("%d lines that it sent name another host, or none, and were put aside (kokkuri status shows the last)", n),
			Mend: "give it the name it calls itself by as an alias under server.hosts; if it forwards for others, name it under server.syslog.relays",
		})
	}
	return out
}

// detectFindings say where the detector had to forget.
func detectFindings(drops map[string]int64) []event.Finding {
	var out []event.Finding
	if n := drops["groups_evicted"]; n > 0 {
		text := fmt.Sprintf("more sources came than are remembered at once: %d were forgotten before their windows were over", n)
		level := "warning"
		if heavy := drops["heavy_groups_evicted"]; heavy > 0 {
			level, text = "error", text+fmt.Sprintf(", %d of them with several failures: some may have attacked unnoticed", heavy)
		}
		out = append(out, event.Finding{Level: level, Subject: "detector", Text: text, Mend: "see kokkuri offences ls for a flood; shorten the windows of rules (within), or disable some"})
	}
	if n := drops["conditions_unanswered"]; n > 0 {
		out = append(out, event.Finding{Level: "warning", Subject: "detector", Text: fmt.Sprintf("%d times a rule's condition could not be answered, and so did not hold", n), Mend: "kokkuri rules ls; simplify the conditions (if)"})
	}
	return out
}

// quarantine are the last lines that were not taken.
func (s *Server) quarantine() []api.Quarantined {
	var out []api.Quarantined
	for _, q := range s.intake.Stats().Quarantine {
		out = append(out, api.Quarantined{At: q.At, Sender: q.Sender, Host: q.Host, File: q.File, Reason: q.Reason, Line: q.Line})
	}
	return out
}
