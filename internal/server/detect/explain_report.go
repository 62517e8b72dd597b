package detect

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

const (
	maxAligned = 1000 // offences that are held back to align their columns
	maxCell    = 48   // characters of a cell
)

// report writes for people: a table of offences, what kinds of lines there were, and the summary. Text from
// the log is escaped.
type report struct {
	w      *bufio.Writer
	quiet  bool
	rows   [][]string
	widths []int // set once the table has begun
	kinds  [5]int
}

func (p *report) line(_ int, e event.Event) error {
	p.kinds[kindIndex(e.Kind)]++
	return nil
}

func kindIndex(k event.Kind) int {
	switch k {
	case event.AuthFailed:
		return 0
	case event.AuthOK:
		return 1
	case event.Probe:
		return 2
	case event.Context:
		return 3
	case event.None:
	}
	return 4
}

func (p *report) offence(o event.Offence) error {
	if p.quiet {
		return nil
	}
	p.rows = append(p.rows, []string{
		clock(o.Last), o.Rule, sourceText(o.Source), cell(o.Host), cell(o.Account), strconv.Itoa(o.Count), string(o.Action), proofLines(o),
	})
	if p.widths == nil && len(p.rows) < maxAligned {
		return nil
	}
	return p.flush()
}

// flush writes the rows held back, and before the first of them the heading.
func (p *report) flush() error {
	if p.widths == nil {
		p.rows = append([][]string{{"LAST", "RULE", "SOURCE", "HOST", "ACCOUNT", "COUNT", "ACTION", "LINES"}}, p.rows...)
		p.widths = make([]int, len(p.rows[0]))
		for _, row := range p.rows {
			for i, c := range row {
				p.widths[i] = max(p.widths[i], utf8.RuneCountInString(c))
			}
		}
	}
	for _, row := range p.rows {
		var b strings.Builder
		for i, c := range row {
			if c == "" {
				c = "-"
			}
			b.WriteString(c)
			b.WriteString(strings.Repeat(" ", max(0, p.widths[i]-utf8.RuneCountInString(c))+2))
		}
		if _, err := fmt.Fprintln(p.w, strings.TrimRight(b.String(), " ")); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	p.rows = p.rows[:0]
	return nil
}

func (p *report) summary(s ExplainSummary) error {
	if !p.quiet {
		if len(p.rows) > 0 {
			if err := p.flush(); err != nil {
				return err
			}
		}
		if s.Offences == 0 {
			fmt.Fprintln(p.w, "No rule fires on this log.") //nolint:errcheck // the buffer keeps its error; the next write has it
		}
		_, err := fmt.Fprintf(p.w, "\nlines by kind: %d auth_failed, %d auth_ok, %d probe, %d context, %d none\n",
			p.kinds[0], p.kinds[1], p.kinds[2], p.kinds[3], p.kinds[4])
		if err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	_, err := fmt.Fprintf(p.w, "%s, %s, %s, %s in %.2f s\n",
		plural(s.Lines, "line", "lines"), plural(s.Events, "event", "events"), plural(s.Guesses, "guess", "guesses"),
		plural(s.Offences, "offence", "offences"), s.Seconds)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// proofLines are the numbers of the lines that prove an offence.
func proofLines(o event.Offence) string {
	numbers := make([]string, len(o.Proof))
	for i, p := range o.Proof {
		numbers[i] = strconv.FormatUint(p.Position.Sequence, 10)
	}
	return strings.Join(numbers, ",")
}

// cell escapes text from the log and bounds its length.
func cell(s string) string {
	r := []rune(parse.Escape(s))
	if len(r) > maxCell {
		return string(r[:maxCell-1]) + "…"
	}
	return string(r)
}
