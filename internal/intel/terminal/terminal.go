// Package terminal reads from a recording what a terminal showed: the one program of a session that is
// played or exported.
package terminal

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/recording"
)

// ErrNothing says that a session started no program, so that there is nothing to show.
var ErrNothing = errors.New("the session has nothing to show: no program was started in it")

// Size of a terminal where none is known, in characters.
const (
	DefaultWidth  = 80
	DefaultHeight = 24
)

// Moment is one thing that happened at a terminal.
type Moment struct {
	At    time.Duration // since the session's start
	Kind  recording.Kind
	Data  []byte       // of In, Out and Err; valid until the next call of Next
	Start *event.Start // the first moment
	Size  *event.Size  // the window changed
	Exit  *event.Exit
}

// Reader reads what happened at one terminal, in order.
type Reader struct {
	r       *recording.Reader
	channel uint32
	start   *Moment
}

// Open looks for the program of a channel; with channel 0 for the session's first that was started.
func Open(r *recording.Reader, channel uint32) (*Reader, error) {
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			if channel != 0 {
				return nil, fmt.Errorf("%w (channel %d)", ErrNothing, channel)
			}
			return nil, ErrNothing
		}
		if err != nil {
			return nil, err
		}
		if f.Kind != recording.Note || channel != 0 && f.Channel != channel {
			continue
		}
		e, err := f.Evidence()
		if err != nil {
			return nil, err
		}
		if e.Start == nil || e.Start.Refused {
			continue
		}
		start := *e.Start
		if start.Terminal() && start.Term == "" {
			start.Term = "dumb"
		}
		if start.Width == 0 || start.Height == 0 || start.Width > 1000 || start.Height > 1000 {
			start.Width, start.Height = DefaultWidth, DefaultHeight
		}
		return &Reader{r: r, channel: f.Channel, start: &Moment{At: f.Offset, Kind: recording.Note, Start: &start}}, nil
	}
}

// Channel returns which of the session's programs it is.
func (t *Reader) Channel() uint32 { return t.channel }

// Next returns the next moment, the start first, and io.EOF at the end, also where the recording was
// cut off.
func (t *Reader) Next() (Moment, error) {
	if t.start != nil {
		m := *t.start
		t.start = nil
		return m, nil
	}
	for {
		f, err := t.r.Next()
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		if err != nil {
			return Moment{}, err
		}
		if f.Channel != t.channel {
			continue
		}
		switch f.Kind {
		case recording.In, recording.Out, recording.Err:
			return Moment{At: f.Offset, Kind: f.Kind, Data: f.Payload}, nil
		case recording.Note:
			e, err := f.Evidence()
			if err != nil {
				return Moment{}, err
			}
			if e.Size != nil || e.Exit != nil {
				return Moment{At: f.Offset, Kind: f.Kind, Size: e.Size, Exit: e.Exit}, nil
			}
		case recording.Truncated, recording.End:
		}
	}
}
