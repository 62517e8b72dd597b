// Package asciicast writes recordings as asciicast v2, which asciinema and many others play
// (docs.asciinema.org/manual/asciicast/v2).
package asciicast

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/kokkuri/kokkuri/internal/intel/terminal"
	"github.com/kokkuri/kokkuri/internal/recording"
)

type header struct {
	Version   int               `json:"version"`
	Width     uint32            `json:"width"`
	Height    uint32            `json:"height"`
	Timestamp int64             `json:"timestamp"`
	Title     string            `json:"title"`
	Command   string            `json:"command,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
}

// Write writes the program of a channel, with channel 0 the session's first. What it showed and what was
// typed are events o and i, changes of the window events r; times count from the program's start.
func Write(w io.Writer, r *recording.Reader, channel uint32) error {
	t, err := terminal.Open(r, channel)
	if err != nil {
		return err
	}
	out := &writer{w: w}
	var began time.Duration
	for {
		m, err := t.Next()
		if errors.Is(err, io.EOF) {
			return out.end()
		}
		if err != nil {
			return err
		}
		if m.Start != nil {
			began, out.lines = m.At, !m.Start.Terminal()
			h := r.Header()
			head := header{
				Version: 2, Width: m.Start.Width, Height: m.Start.Height, Timestamp: h.StartedAt.Add(began).Unix(),
				Title: fmt.Sprintf("%s on %s, session %s", h.Attacker, h.Host, h.Session), Command: m.Start.Command.Escaped(),
			}
			if m.Start.Term != "" {
				head.Env = map[string]string{"TERM": m.Start.Term.Escaped()}
			}
			if err := out.line(head); err != nil {
				return err
			}
			continue
		}
		if err := out.moment(m, m.At-began); err != nil {
			return err
		}
	}
}

type writer struct {
	w    io.Writer
	rest [2][]byte // what may be the start of a character: of the input, of the output
	last time.Duration
	// lines: what it shows comes from a program without a terminal, which would return the carriage.
	lines bool
}

func (o *writer) moment(m terminal.Moment, at time.Duration) error {
	o.last = at
	switch {
	case m.Size != nil:
		return o.event(at, "r", fmt.Sprintf("%dx%d", m.Size.Width, m.Size.Height))
	case m.Exit != nil:
		return nil
	}
	code, way := "o", 1
	if m.Kind == recording.In {
		code, way = "i", 0
	}
	if o.lines && way == 1 {
		m.Data = bytes.ReplaceAll(bytes.ReplaceAll(m.Data, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	}
	text, rest := decode(append(o.rest[way], m.Data...), false)
	o.rest[way] = append([]byte(nil), rest...)
	if text == "" {
		return nil
	}
	return o.event(at, code, text)
}

// end writes what was left of a character.
func (o *writer) end() error {
	for way, code := range []string{"i", "o"} {
		if text, _ := decode(o.rest[way], true); text != "" {
			if err := o.event(o.last, code, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// decode returns what is text of p, and what may become a character when more comes. What is none is
// U+FFFD.
func decode(p []byte, end bool) (text string, rest []byte) {
	out := make([]rune, 0, len(p))
	for len(p) > 0 {
		if !end && !utf8.FullRune(p) {
			return string(out), p
		}
		r, n := utf8.DecodeRune(p)
		out = append(out, r)
		p = p[n:]
	}
	return string(out), nil
}

func (o *writer) event(at time.Duration, code, text string) error {
	return o.line([]any{json.Number(fmt.Sprintf("%.6f", max(at, 0).Seconds())), code, text})
}

func (o *writer) line(v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = o.w.Write(append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write asciicast: %w", err)
	}
	return nil
}
