package detect

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// maxExplainLine bounds what is kept of a line; the rest of a longer one is skipped.
const maxExplainLine = 64 << 10

// ExplainOptions say how to explain a log.
type ExplainOptions struct {
	Rules   Rules            // none: the rules as shipped
	Service event.Service    // of lines without a header; empty: they say nothing
	JSON    bool             // one JSON object a line instead of a report
	Summary bool             // only the summary
	Ref     time.Time        // gives RFC 3164 times their year and zone: the file's modification time, or now (the default)
	Now     func() time.Time // clock; time.Now by default
}

// ExplainSummary counts what a log held.
type ExplainSummary struct {
	Lines    int     `json:"lines"`
	Events   int     `json:"events"`  // lines of a kind other than none
	Guesses  int     `json:"guesses"` // attempts of auth_failed events
	Offences int     `json:"offences"`
	Seconds  float64 `json:"seconds"` // that explaining took
}

// explainer writes what lines mean.
type explainer interface {
	line(n int, e event.Event) error
	offence(o event.Offence) error
	summary(s ExplainSummary) error
}

// Explain parses the log r and runs the rules over it, and writes to w what each line means, the offences and a
// summary, in the form of `kokkuri explain`. It changes nothing anywhere, and its memory is bounded whatever
// the log's length. It ends early with ctx's error when ctx ends.
func Explain(ctx context.Context, r io.Reader, w io.Writer, opts ExplainOptions) (ExplainSummary, error) {
	if len(opts.Rules.Rules) == 0 {
		opts.Rules = DefaultRules()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	begin := opts.Now()
	if opts.Ref.IsZero() {
		opts.Ref = begin
	}
	out := bufio.NewWriterSize(w, 64<<10)
	var to explainer = &report{w: out, quiet: opts.Summary}
	if opts.JSON {
		to = &jsonLines{w: out, quiet: opts.Summary}
	}
	sum, err := explain(ctx, r, to, opts)
	sum.Seconds = opts.Now().Sub(begin).Seconds()
	if err == nil {
		err = to.summary(sum)
	}
	if flushErr := out.Flush(); err == nil && flushErr != nil {
		err = fmt.Errorf("write explanation: %w", flushErr)
	}
	return sum, err
}

func explain(ctx context.Context, r io.Reader, to explainer, opts ExplainOptions) (ExplainSummary, error) {
	var sum ExplainSummary
	lines := &lineReader{r: bufio.NewReaderSize(r, maxExplainLine)}
	detector := New(Options{Rules: opts.Rules})
	parser := parse.New(parse.Options{Patterns: opts.Rules.Patterns})
	for {
		if sum.Lines%1024 == 0 && ctx.Err() != nil {
			return sum, fmt.Errorf("explain: %w", context.Cause(ctx))
		}
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return sum, fmt.Errorf("read line %d: %w", sum.Lines+1, err)
		}
		sum.Lines++
		e := parser.Line(line, opts.Ref)
		if e.Time.IsZero() && e.Kind == event.None && opts.Service != "" {
			e = parser.Message(opts.Service, line)
		}
		if e.Kind != event.None {
			sum.Events++
			sum.Guesses += e.Attempts
		}
		if err := to.line(sum.Lines, e); err != nil {
			return sum, err
		}
		if e.Kind == event.None {
			continue
		}
		for _, o := range detector.Observe(event.Position{Sequence: uint64(sum.Lines)}, e, line) {
			sum.Offences++
			if err := to.offence(o); err != nil {
				return sum, err
			}
		}
	}
}

// lineReader reads lines of bounded length.
type lineReader struct {
	r *bufio.Reader
}

// next returns the next line without its end, cut to what the buffer holds; it is valid until the next call.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line = bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = l.r.ReadSlice('\n')
		}
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}
