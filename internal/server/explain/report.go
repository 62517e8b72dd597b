package explain

import (
	"bufio"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

const (
	maxAligned   = 1000   // offences that are held back to align their columns
	maxCell      = 48     // characters of a cell
	maxProofText = 160    // characters shown of a line that proves something
	maxProofs    = 5      // lines shown that prove an offence
	maxSources   = 50_000 // sources that are told apart in what is said of a rule
)

// report writes for people: a table of offences, each with the lines that prove it, what the rules would have done, what
// was not understood, what kinds of lines there were, and the summary. Text from logs is escaped.
type report struct {
	w      *bufio.Writer
	quiet  bool
	files  *numbering
	rows   []row
	widths []int   // set once the table has begun
	kinds  *[5]int // lines by kind
	rules  map[string]*fired
}

// row is an offence in the table.
type row struct {
	cells []string
	proof []string // lines below it
}

// fired is what a rule would have done.
type fired struct {
	action   event.Action
	offences int
	sources  map[netip.Prefix]struct{}
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
	f := p.rules[o.Rule]
	if f == nil {
		f = &fired{action: o.Action, sources: map[netip.Prefix]struct{}{}}
		p.rules[o.Rule] = f
	}
	f.offences++
	if o.Source.IsValid() && len(f.sources) < maxSources {
		f.sources[o.Source] = struct{}{}
	}
	if p.quiet {
		return nil
	}
	p.rows = append(p.rows, row{[]string{
		clock(o.Last), o.Rule, sourceText(o.Source), cell(o.Host), cell(o.Account), strconv.Itoa(o.Count), string(o.Action), p.proofLines(o),
	}, p.proof(o)})
	if p.widths == nil && len(p.rows) < maxAligned {
		return nil
	}
	return p.flush()
}

// flush writes the rows held back, and before the first of them the heading.
func (p *report) flush() error {
	if p.widths == nil {
		p.rows = append([]row{{cells: []string{"LAST", "RULE", "SOURCE", "HOST", "ACCOUNT", "COUNT", "ACTION", "LINES"}}}, p.rows...)
		p.widths = make([]int, len(p.rows[0].cells))
		for _, row := range p.rows {
			for i, c := range row.cells {
				p.widths[i] = max(p.widths[i], utf8.RuneCountInString(c))
			}
		}
	}
	for _, row := range p.rows {
		var b strings.Builder
		for i, c := range row.cells {
			if c == "" {
				c = "-"
			}
			b.WriteString(c)
			b.WriteString(strings.Repeat(" ", max(0, p.widths[i]-utf8.RuneCountInString(c))+2))
		}
		p.print("%s\n", strings.TrimRight(b.String(), " "))
		for _, line := range row.proof {
			p.print("    %s\n", line)
		}
	}
	p.rows = p.rows[:0]
	return p.err()
}

// print writes to the buffer, which keeps its error; see err.
func (p *report) print(format string, args ...any) {
	fmt.Fprintf(p.w, format, args...) //nolint:errcheck // see err
}

func (p *report) err() error {
	if _, err := p.w.Write(nil); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func (p *report) summary(s Summary) error {
	if !p.quiet {
		if len(p.rows) > 0 {
			if err := p.flush(); err != nil {
				return err
			}
		}
		if s.Offences == 0 {
			p.print("No rule fires on this log.\n")
		}
		p.unknown(s)
		p.print("\nlines by kind: %d auth_failed, %d auth_ok, %d probe, %d context, %d none\n",
			p.kinds[0], p.kinds[1], p.kinds[2], p.kinds[3], p.kinds[4])
	}
	for _, name := range slices.Sorted(maps.Keys(p.rules)) {
		f := p.rules[name]
		p.print("%s would have fired %s (%s)", name, plural(f.offences, "time", "times"), f.action)
		switch n := len(f.sources); {
		case n == maxSources:
			p.print(" for %d sources or more", n)
		case n > 0:
			p.print(" for %s", plural(n, "source", "sources"))
		}
		p.print("\n")
	}
	if s.Timeless > 0 {
		p.print("%s no time that says its date: they count as if they were of one moment\n", plural(s.Timeless, "event has", "events have"))
	}
	if s.Evicted > 0 {
		p.print("%s given up to bound the memory: a rule may have fired more often than is said here\n", plural(int(s.Evicted), "group was", "groups were"))
	}
	p.print("%s, %s, %s, %s in %.2f s\n",
		plural(s.Lines, "line", "lines"), plural(s.Events, "event", "events"), plural(s.Guesses, "guess", "guesses"),
		plural(s.Offences, "offence", "offences"), s.Seconds)
	return p.err()
}

// unknown lists the shapes of lines that were not understood.
func (p *report) unknown(s Summary) {
	if s.Unknown == 0 {
		return
	}
	p.print("\n%s not understood, of these shapes:\n", plural(s.Unknown, "line was", "lines were"))
	width := len(strconv.Itoa(s.Shapes[0].Count))
	for _, shape := range s.Shapes {
		p.print("  %*d  %s  (%s)\n", width, shape.Count, shorten(parse.Escape(shape.Text), 2*maxShape), p.place(shape.Line))
	}
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

// proofLines are the numbers of the lines that prove an offence; of several inputs with the names of these.
func (p *report) proofLines(o event.Offence) string {
	numbers := make([]string, len(o.Proof))
	last := ""
	for i, pr := range o.Proof {
		name, n := p.files.place(int(pr.Position.Sequence))
		numbers[i] = strconv.Itoa(n)
		if p.files.several() && name != last {
			numbers[i] = parse.Escape(name) + ":" + numbers[i]
			last = name
		}
	}
	return strings.Join(numbers, ",")
}

// place names a line of the run.
func (p *report) place(line int) string {
	name, n := p.files.place(line)
	if p.files.several() {
		return "line " + strconv.Itoa(n) + " of " + parse.Escape(name)
	}
	return "line " + strconv.Itoa(n)
}

// proof are lines that prove an offence.
func (p *report) proof(o event.Offence) []string {
	var out []string
	for i, pr := range o.Proof {
		if i == maxProofs-1 && len(o.Proof) > maxProofs {
			return append(out, fmt.Sprintf("… and %d more", len(o.Proof)-i))
		}
		out = append(out, shorten(parse.Escape(pr.Line), maxProofText))
	}
	return out
}

// cell escapes text from the log and bounds its length.
func cell(s string) string { return shorten(parse.Escape(s), maxCell) }

func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	r := []rune(s)
	if len(r) <= limit {
		return s
	}
	return string(r[:limit-1]) + "…"
}
