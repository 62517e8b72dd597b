package replay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/intel/terminal"
	"github.com/kokkuri/kokkuri/internal/recording"
)

// Tape is what a program showed, harmless, with the times at which it did.
type Tape struct {
	frames []frame
	plain  string // its text in lower case, to search in
}

type frame struct {
	at    time.Duration // since the program's start, idle time cut
	data  []byte
	plain int // where its text begins in the tape's
}

// Load reads the program of a channel, with channel 0 the session's first. Idle time beyond maxIdle is cut; 0
// leaves it.
func Load(r *recording.Reader, channel uint32, maxIdle time.Duration) (*Tape, error) {
	t, err := terminal.Open(r, channel)
	if err != nil {
		return nil, err
	}
	var tape Tape
	var plain strings.Builder
	var draw, words Filter
	words.Plain = true
	var last, now time.Duration
	terminal := true
	add := func(at time.Duration, data []byte) {
		gap := at - last
		if maxIdle > 0 {
			gap = min(gap, maxIdle)
		}
		last, now = at, now+max(gap, 0)
		shown := append([]byte(nil), draw.Write(data)...)
		if !terminal {
			shown = returned(shown)
		}
		tape.frames = append(tape.frames, frame{at: now, data: shown, plain: plain.Len()})
		plain.WriteString(strings.ToLower(string(words.Write(data))))
	}
	for {
		m, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			tape.plain = plain.String()
			return &tape, nil
		case err != nil:
			return nil, err
		case m.Start != nil:
			last, terminal = m.At, m.Start.Terminal()
			if m.Start.What == "exec" {
				add(m.At, []byte("$ "+m.Start.Command.Escaped()+"\r\n"))
			}
		case m.Exit != nil, m.Size != nil, m.Kind == recording.In:
		case m.Kind == recording.Out, m.Kind == recording.Err:
			add(m.At, m.Data)
		}
	}
}

// returned begins lines at the left, as a terminal does for a program that has none.
func returned(p []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(p, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

// Length is how long the tape plays.
func (t *Tape) Length() time.Duration {
	if len(t.frames) == 0 {
		return 0
	}
	return t.frames[len(t.frames)-1].at
}

// WriteText writes all of the tape at once, as text without any control.
func (t *Tape) WriteText(w io.Writer) error {
	f := Filter{Plain: true}
	for _, fr := range t.frames {
		if _, err := w.Write(f.Write(fr.data)); err != nil {
			return fmt.Errorf("write the replay: %w", err)
		}
	}
	return nil
}

// find returns the first frame after one with which a text has appeared; ok is false where it doesn't.
func (t *Tape) find(text string, after int) (int, bool) {
	text = strings.ToLower(text)
	if text == "" || len(t.frames) == 0 {
		return 0, false
	}
	begin := 0
	if after >= 0 && after+1 < len(t.frames) {
		begin = max(0, t.frames[after+1].plain-len(text)+1)
	} else if after+1 >= len(t.frames) {
		return 0, false
	}
	i := strings.Index(t.plain[begin:], text)
	if i < 0 {
		return 0, false
	}
	end := begin + i + len(text) - 1
	n := len(t.frames) - 1
	for n > 0 && t.frames[n].plain > end {
		n--
	}
	return n, true
}

// before returns the last frame that is shown at a time.
func (t *Tape) before(at time.Duration) int {
	n := -1
	for n+1 < len(t.frames) && t.frames[n+1].at <= at {
		n++
	}
	return n
}
