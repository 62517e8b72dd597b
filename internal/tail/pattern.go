package tail

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// HostPart is the part of a pattern that stands for a host's name or address.
const HostPart = "%HOST%"

// lookAhead is how long before a date comes its file is looked for: senders' clocks go before ours.
const lookAhead = 10 * time.Minute

// maxSteps bounds how many files of the past are looked for after a long absence.
const maxSteps = 800

// maxPath bounds a pattern, for the path goes with each batch.
const maxPath = 800

// ErrPattern is wrapped by the errors for patterns that cannot be followed.
var ErrPattern = errors.New("unusable path pattern")

// pattern is a path with date parts.
type pattern struct {
	text  string
	dated bool
	step  time.Duration // no two different names lie closer together than this
}

// parsePattern reads a path with the date parts %Y %y %m %d %H %j; %% is a percent sign. %HOST% must have been replaced before.
func parsePattern(text string) (pattern, error) {
	p := pattern{text: text, step: 12 * time.Hour}
	if !filepath.IsAbs(text) {
		return p, fmt.Errorf("%w: %q is not an absolute path", ErrPattern, text)
	}
	if len(text) > maxPath {
		return p, fmt.Errorf("%w: it is %d bytes long, at most %d are allowed", ErrPattern, len(text), maxPath)
	}
	if strings.ContainsRune(text, 0) {
		return p, fmt.Errorf("%w: %q contains a NUL", ErrPattern, text)
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			continue
		}
		i++
		switch {
		case i == len(text):
			return p, fmt.Errorf("%w: %q ends in a single %%", ErrPattern, text)
		case text[i] == 'H' && !strings.HasPrefix(text[i:], "HOST%"):
			p.dated, p.step = true, 30*time.Minute
		case strings.IndexByte("Yymdj", text[i]) >= 0:
			p.dated = true
		case text[i] == '%':
		default:
			return p, fmt.Errorf("%w: %q has %%%c at byte %d; allowed are %%Y %%y %%m %%d %%H %%j %%%% and, in files of several hosts, one %s",
				ErrPattern, text, text[i], i, HostPart)
		}
	}
	return p, nil
}

// at returns the path for the time t, in t's own zone.
func (p pattern) at(t time.Time) string {
	var b strings.Builder
	for i := 0; i < len(p.text); i++ {
		c := p.text[i]
		if c != '%' {
			b.WriteByte(c)
			continue
		}
		i++
		switch p.text[i] {
		case 'Y':
			fmt.Fprintf(&b, "%04d", t.Year())
		case 'y':
			fmt.Fprintf(&b, "%02d", t.Year()%100)
		case 'm':
			fmt.Fprintf(&b, "%02d", t.Month())
		case 'd':
			fmt.Fprintf(&b, "%02d", t.Day())
		case 'H':
			fmt.Fprintf(&b, "%02d", t.Hour())
		case 'j':
			fmt.Fprintf(&b, "%03d", t.YearDay())
		default:
			b.WriteByte(p.text[i])
		}
	}
	return filepath.Clean(b.String())
}

// between returns the paths of the times from last to now and a little ahead, oldest first, and how many of them, counted
// from the end, are those that may be written now.
func (p pattern) between(last, now time.Time) (paths []string, current int) {
	if !p.dated {
		return []string{p.at(now)}, 1
	}
	add := func(path string) {
		if !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	if first := now.Add(-maxSteps * p.step); last.Before(first) {
		last = first
	}
	for t := last; t.Before(now); t = t.Add(p.step) {
		add(p.at(t.In(now.Location())))
	}
	today := p.at(now)
	if i := slices.Index(paths, today); i >= 0 {
		paths = paths[:i]
	}
	past := len(paths)
	add(today)
	add(p.at(now.Add(lookAhead)))
	return paths, len(paths) - past
}

// literal makes text stand for itself in a pattern.
func literal(text string) string { return strings.ReplaceAll(text, "%", "%%") }
