// Package explain answers what the rules would have done with logs that are there already, and to whom: offline, changing
// nothing, on all cores, in bounded memory.
package explain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// Bounds of the detector's memory, less than a server's: what is given up is counted in the summary.
const (
	maxGroups     = 60_000
	maxGroupBytes = 32 << 20
	maxOpen       = 30_000
)

// Options say how to explain logs.
type Options struct {
	Rules   detect.Rules // none: the rules as shipped
	HTTP    parse.HTTPOptions
	OnList  func(list string, source netip.Addr) bool // whether a source is on a list of the rules'; nil: none is on any
	Service event.Service                             // of lines without a header; empty: they say nothing
	JSON    bool                                      // one JSON object a line instead of a report
	Summary bool                                      // only the summary
	Now     func() time.Time                          // clock; time.Now by default
	Workers int                                       // lines are parsed by so many at once; as many as there are processors by default

	// Progress, where given, is told now and then how far it is.
	Progress func(Progress)
}

// Progress is how far explaining is.
type Progress struct {
	Read, Total int64 // bytes of the inputs, as they are stored; Total is 0 where it is not known
	Lines       int
}

// Input is one log.
type Input struct {
	Name    string
	Open    func() (io.ReadCloser, error)
	Written time.Time // when it was last written: gives RFC 3164 times their year and zone; zero: now
	Size    int64     // bytes; 0 where that is not known
	Once    bool      // Open may be called only once, as of the standard input
}

// Summary counts what logs held.
type Summary struct {
	Lines    int     `json:"lines"`
	Events   int     `json:"events"`  // lines of a kind other than none
	Guesses  int     `json:"guesses"` // attempts of auth_failed events
	Offences int     `json:"offences"`
	Seconds  float64 `json:"seconds"` // that explaining took

	// What might make the answer less than right; absent where it is not so.
	Timeless int     `json:"events_without_time,omitempty"` // they count as if they were of one moment
	Evicted  uint64  `json:"groups_evicted,omitempty"`      // groups given up, for the bounds, before their window was over
	Unknown  int     `json:"lines_not_understood,omitempty"`
	Shapes   []Shape `json:"not_understood,omitempty"` // the most frequent first
}

// writer writes what lines mean.
type writer interface {
	offence(o event.Offence) error
	summary(s Summary) error
}

// Explain parses logs, one after the other in the order of their first times, and runs the rules over them. It writes to w
// what each line means, the offences and a summary, in the form of `kokkuri explain`. It ends early with ctx's error
// when ctx ends. Where an input can't be read to its end, what came before is explained, and the error returned.
func Explain(ctx context.Context, inputs []Input, w io.Writer, opts Options) (Summary, error) {
	if len(opts.Rules.Rules) == 0 {
		patterns := opts.Rules.Patterns // a file may have parsers alone
		opts.Rules = detect.DefaultRules()
		opts.Rules.Patterns = patterns
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	begin := opts.Now()
	out := bufio.NewWriterSize(w, 64<<10)
	inputs, err := inOrder(inputs, begin)
	if err != nil {
		return Summary{}, err
	}
	r := newRun(inputs, out, opts, begin)
	sum, err := r.all(ctx)
	sum.Seconds = opts.Now().Sub(begin).Seconds()
	var broken *readError
	if err == nil || errors.As(err, &broken) {
		if sumErr := r.to.summary(sum); sumErr != nil {
			err = sumErr
		}
	}
	if flushErr := out.Flush(); err == nil && flushErr != nil {
		err = fmt.Errorf("write explanation: %w", flushErr)
	}
	return sum, err
}

// readError is an input that can't be read to its end.
type readError struct {
	name  string
	line  int // the last that was read
	cause error
}

func (e *readError) Error() string {
	return fmt.Sprintf("read %s after line %d: %v", e.name, e.line, e.cause)
}

func (e *readError) Unwrap() error { return e.cause }
