package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kokkuri/kokkuri/internal/cli/safe"
)

// style is how a cell looks on a terminal, as the parameters of SGR (ECMA-48).
type style string

const (
	normal style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

// cell is one field of a table. Its text may be an attacker's: it is escaped when it is written.
type cell struct {
	text  string
	style style
}

func plain(text string) cell { return cell{text: text} }

// widest is how many characters a cell of a table has at most.
const widest = 60

// table writes aligned columns; where there are no rows it writes what that means.
func (a *app) table(headers []string, rows [][]cell, empty string) error {
	if len(rows) == 0 {
		return a.printf("%s\n", empty)
	}
	head := make([]cell, len(headers))
	for i, h := range headers {
		head[i] = cell{h, bold}
	}
	return writeTable(a.env.Stdout, a.env.Colour, append([][]cell{head}, rows...))
}

func writeTable(w io.Writer, colour bool, rows [][]cell) error {
	widths := map[int]int{}
	texts := make([][]string, len(rows))
	for i, row := range rows {
		texts[i] = make([]string, len(row))
		for j, c := range row {
			text := safe.Cut(c.text, widest)
			if text == "" {
				text = "-"
			}
			texts[i][j] = text
			widths[j] = max(widths[j], utf8.RuneCountInString(text))
		}
	}
	var b strings.Builder
	for i, row := range rows {
		for j, c := range row {
			text := texts[i][j]
			pad := strings.Repeat(" ", widths[j]-utf8.RuneCountInString(text)+2)
			if j == len(row)-1 {
				pad = ""
			}
			b.WriteString(paint(colour, c.style, text) + pad)
		}
		b.WriteByte('\n')
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func paint(colour bool, s style, text string) string {
	if !colour || s == normal {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// field is a line of what `show` prints.
type field struct{ name, text string }

// fields writes names and values; empty values are left out. Values are escaped.
func (a *app) fields(list []field) error {
	width := 0
	for _, f := range list {
		width = max(width, len(f.name))
	}
	var b strings.Builder
	for _, f := range list {
		if f.text != "" {
			name := f.name + ":" + strings.Repeat(" ", width-len(f.name)+2)
			b.WriteString(paint(a.env.Colour, bold, name) + safe.Text(f.text) + "\n")
		}
	}
	return a.printf("%s", b.String())
}

// ago says how long a time is back, or how far ahead, as people say it; the zero time is nothing.
func (a *app) ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := a.env.Now().Sub(t)
	switch {
	case d < -time.Second:
		return "in " + span(-d)
	case d < time.Second:
		return "now"
	}
	return span(d) + " ago"
}

// span writes a duration with its greatest unit.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// stamp writes a time exactly, and how long that is back.
func (a *app) stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z") + " (" + a.ago(t) + ")"
}

// bytes writes a number of bytes for people.
func bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for ; f >= unit && i < 3; i++ {
		f /= unit
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGT"[i])
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// joined writes a list with commas.
func joined[T any](list []T) string {
	parts := make([]string, len(list))
	for i, e := range list {
		parts[i] = fmt.Sprint(e)
	}
	return strings.Join(parts, ", ")
}
