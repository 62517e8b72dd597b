package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/event"
)

type (
	sessionsCmd struct {
		Ls     sessionsLsCmd     `cmd:"" default:"withargs" help:"List sessions, newest first."`
		Show   sessionsShowCmd   `cmd:"" help:"Show one, with what it left."`
		Replay sessionsReplayCmd `cmd:"" help:"Play one in the terminal."`
		Export sessionsExportCmd `cmd:"" help:"Write one for other programs."`
		File   sessionsFileCmd   `cmd:"" help:"Write a file that came with one."`
	}
	sessionsLsCmd   struct{ listFlags }
	sessionsShowCmd struct{ idArg }
)

func (c *sessionsLsCmd) Run(ctx context.Context, a *app) error {
	return listed(ctx, a, c.listFlags, sessionView())
}

// sessionWithEvidence is what `sessions show --json` prints.
type sessionWithEvidence struct {
	event.Session

	Left []event.Evidence `json:"left"`
}

func (c *sessionsShowCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	s, err := api.Show[event.Session](ctx, server, api.PathSessions, c.ID)
	if err != nil {
		return err
	}
	left, err := server.Evidence(ctx, c.ID)
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(sessionWithEvidence{Session: s, Left: left})
	}
	if err := a.fields(sessionView().fields(a, s)); err != nil || len(left) == 0 {
		return err
	}
	// What the node sees of programs is told a moment after what came over the connection.
	slices.SortStableFunc(left, func(a, b event.Evidence) int { return a.At.Compare(b.At) })
	rows := make([][]cell, len(left))
	for i, e := range left {
		rows[i] = []cell{
			plain(fmt.Sprintf("%.3f s", e.At.Sub(s.StartedAt).Seconds())), plain(channelName(e.Channel)), plain(string(e.Kind)), plain(describe(e)),
		}
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	return a.table([]string{"AFTER", "CHANNEL", "WHAT", "DETAILS"}, rows, "")
}

func channelName(n uint32) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(n), 10)
}

func sessionView() view[event.Session] {
	return view[event.Session]{
		path:    api.PathSessions,
		headers: []string{"ID", "ATTACKER", "HOST", "SERVICE", "STARTED", "LASTED", "ACCOUNT", "GUESSES", "COMMANDS", "FILES", "IN", "OUT"},
		empty:   "No attacker has reached a honeypot.",
		row: func(a *app, s event.Session) []cell {
			lasted := cell{"open", green}
			if !s.EndedAt.IsZero() {
				lasted = plain(span(s.EndedAt.Sub(s.StartedAt)))
			}
			return []cell{
				plain(s.ID), plain(address(s.Attacker)), plain(s.Host), plain(string(s.Service)), plain(a.ago(s.StartedAt)), lasted,
				plain(string(s.Account)), some(s.Guesses), some(s.Commands), some(s.Files),
				plain(bytes(s.BytesIn)), plain(bytes(s.BytesOut)),
			}
		},
		fields: func(a *app, s event.Session) []field {
			return []field{
				{"id", s.ID},
				{"attacker", s.Attacker.String()},
				{"host", s.Host},
				{"service", string(s.Service)},
				{"target", endpoint(s.Target)},
				{"node", s.Node},
				{"pot", s.PotID},
				{"lease", s.LeaseID},
				{"peer", endpoint(s.Peer)},
				{"client", string(s.Client)},
				{"hassh", s.HASSH},
				{"account", string(s.Account)},
				{"guesses", number(s.Guesses)},
				{"commands", number(s.Commands)},
				{"files", number(s.Files)},
				{"programs", number(s.Executed)},
				{"started", a.stamp(s.StartedAt)},
				{"first byte", a.stamp(s.FirstByte)},
				{"ended", a.stamp(s.EndedAt)},
				{"from attacker", bytes(s.BytesIn)},
				{"to attacker", bytes(s.BytesOut)},
				{"reason", s.Reason},
				{"recording", s.Recording},
				{"cut short", strings.TrimPrefix(yes(s.Truncated), "no")},
			}
		},
	}
}

// some is a count of which none is nothing.
func some(n int) cell { return plain(number(n)) }

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// describe says in one line what a piece of evidence states. It holds an attacker's bytes: escape it.
func describe(e event.Evidence) string {
	switch {
	case e.Client != nil:
		return strings.Join(strings.Fields(strings.Join([]string{string(e.Client.Version), e.Client.HASSH, e.Client.JA4, string(e.Client.ServerName)}, " ")), " ")
	case e.Login != nil:
		return describeLogin(*e.Login, e.Reason)
	case e.Key != nil:
		return fmt.Sprintf("%s offers %s %s", string(e.Key.Account), e.Key.Type, e.Key.Fingerprint)
	case e.Start != nil:
		return describeStart(*e.Start)
	case e.Size != nil:
		return fmt.Sprintf("%d × %d", e.Size.Width, e.Size.Height)
	case e.Variable != nil:
		return string(e.Variable.Name) + "=" + string(e.Variable.Value)
	case e.Exit != nil && e.Exit.Signal != "":
		return "signal " + e.Exit.Signal
	case e.Exit != nil:
		return "status " + strconv.Itoa(e.Exit.Status)
	case e.File != nil:
		return describeFile(*e.File)
	case e.Forward != nil:
		return describeForward(*e.Forward)
	case e.Request != nil:
		return describeRequest(*e.Request)
	case e.Egress != nil:
		return describeEgress(*e.Egress)
	}
	if out := describeSeen(e); out != "" {
		return out
	}
	return e.Signal + string(e.Input) + string(e.Data) + e.Reason
}

func describeRequest(r event.Request) string {
	var b strings.Builder
	for i, a := range r.Args {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(a))
	}
	if r.Truncated {
		b.WriteString(" …")
	}
	if r.Failed {
		b.WriteString(": " + strings.TrimSpace(string(r.Answer)))
	}
	return b.String()
}

func describeLogin(l event.Login, reason string) string {
	outcome := "refused"
	switch {
	case l.Success:
		outcome = "let in"
	case reason != "":
		outcome += ", " + reason
	}
	return fmt.Sprintf("%s: %s / %s (%s)", outcome, string(l.Account), string(l.Secret()), l.Method)
}

func describeStart(s event.Start) string {
	out := s.What
	if s.Command != "" {
		out += " " + string(s.Command)
	}
	if s.Terminal() {
		out += fmt.Sprintf(" (terminal %s, %d × %d)", string(s.Term), s.Width, s.Height)
	}
	if s.Refused {
		out += " (refused)"
	}
	return out
}

func describeFile(f event.File) string {
	from := string(f.Path)
	if f.URL != "" {
		from = string(f.URL)
	}
	out := fmt.Sprintf("%s %s, %s", f.How, from, bytes(f.Size))
	if f.SHA256 != "" {
		out += ", sha256 " + f.SHA256[:min(12, len(f.SHA256))] + "…"
	}
	if f.Truncated {
		out += ", cut short"
	}
	if f.Partial {
		out += ", did not come whole"
	}
	return out
}

func describeForward(f event.Forward) string {
	out := fmt.Sprintf("%s %s", f.What, string(f.Destination))
	if f.Port != 0 {
		out += fmt.Sprintf(" port %d", f.Port)
	}
	if f.Refused {
		out += " (refused)"
	}
	return out
}
