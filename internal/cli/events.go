package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/cli/safe"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/intel/schema"
)

// maxConnected bounds the sessions whose start is remembered to have been printed.
const maxConnected = 100_000

type eventsCmd struct {
	Tail   tailCmd   `cmd:"" help:"Print events and evidence as they come."`
	Schema schemaCmd `cmd:"" help:"Print the JSON Schema of what tail prints as JSON."`
}

type schemaCmd struct{}

func (*schemaCmd) Run(_ context.Context, a *app) error { return a.printf("%s", schema.Text()) }

type tailCmd struct {
	client

	Format string `default:"text" enum:"text,json,cowrie" help:"How they are printed: ${enum}; json: one object a line; cowrie: what attackers leave as Cowrie's events, one object a line." placeholder:"FORMAT"`
}

func (c *tailCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	format := c.Format
	if a.wantsJSON(c.output) && format == "text" {
		format = "json"
	}
	connected := map[string]bool{} // sessions whose start was printed; cleared when they are too many
	return server.Tail(ctx, func(w api.Watched) error {
		switch {
		case format == "cowrie":
			return a.watchedCowrie(ctx, server, w, connected)
		case format == "json" && w.Event != nil:
			return a.line(w.Event)
		case format == "json":
			return a.line(w)
		}
		return a.watched(w)
	})
}

// watched prints one for people.
func (a *app) watched(w api.Watched) error {
	var words []string
	switch {
	case w.Event != nil:
		e := w.Event
		source := ""
		if e.Source.IsValid() {
			source = e.Source.String()
		}
		words = []string{e.Time.UTC().Format("15:04:05.000"), e.Host, string(e.Service), string(e.Kind), source, safe.Cut(e.Account, widest), e.Method}
	case w.Evidence != nil && w.Session != nil:
		e, s := w.Evidence, w.Session
		words = []string{e.At.UTC().Format("15:04:05.000"), s.Host, string(s.Service), string(e.Kind), address(s.Attacker), s.ID, safe.Cut(describe(*e), 2*widest)}
	}
	return a.printf("%s\n", strings.Join(strings.Fields(strings.Join(words, " ")), " "))
}

// watchedCowrie prints what a session left. Consumers need to have heard of its start. Its terminals' logs are
// closed with it: until then the recording is not whole.
func (a *app) watchedCowrie(ctx context.Context, server *api.Client, w api.Watched, connected map[string]bool) error {
	if w.Evidence == nil || w.Session == nil {
		return nil
	}
	r := sensor(*w.Session)
	if !connected[w.Session.ID] {
		if len(connected) >= maxConnected {
			clear(connected)
		}
		connected[w.Session.ID] = true
		if err := a.line(r.Connect(*w.Session)); err != nil {
			return err
		}
	}
	if w.Evidence.Kind == event.EvidenceClosed {
		delete(connected, w.Session.ID)
		if err := a.closedLogs(ctx, server, *w.Session); err != nil {
			return err
		}
	}
	for _, e := range r.Events(*w.Session, *w.Evidence) {
		if err := a.line(e); err != nil {
			return err
		}
	}
	return nil
}

// closedLogs prints the ends of a session's terminals.
func (a *app) closedLogs(ctx context.Context, server *api.Client, s event.Session) error {
	left, err := server.Evidence(ctx, s.ID)
	if err != nil {
		return nil //nolint:nilerr // the server no longer has it; what comes is printed nevertheless
	}
	ends := sensor(s).Logs(s, left, a.logs(ctx, server, s.ID, left))
	for _, i := range slices.Sorted(maps.Keys(ends)) {
		if err := a.line(ends[i]); err != nil {
			return err
		}
	}
	return nil
}

// writeLine writes a JSON object on a line of its own.
func writeLine(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = w.Write(append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
