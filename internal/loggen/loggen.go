// Package loggen writes logs as hosts with an sshd under attack write them, and knows what is true about them: how many guesses
// there were, and who offended. The same options give the same log.
package loggen

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// Stamp is the form of a log's times.
type Stamp string

// Stamps.
const (
	ISO     Stamp = "iso"     // as rsyslog writes them by default since Debian 12
	RFC3164 Stamp = "rfc3164" // as it did before
)

// Options say what log to write; zero values mean the defaults.
type Options struct {
	Lines   int
	Seed    uint64
	Stamp   Stamp     // ISO
	OpenSSH int       // 9 or 10: of which version the hosts are; 0: one of each
	Sources int       // that attack; 2,000
	Begin   time.Time // of the log: 2026-10-01T00:00:00Z
}

// What makes an offender: so many guesses within such a time from one source at one host, as in the rule ssh-bruteforce.
const (
	offenceCount = 5
	offenceTime  = 2 * time.Minute
)

// Truth is what is true about a log.
type Truth struct {
	Lines     int       `json:"lines"`
	Failures  int       `json:"failures"` // lines that state a failed guess
	Guesses   int       `json:"guesses"`
	Logins    int       `json:"logins"`
	Sources   int       `json:"sources"`   // that guessed
	Offenders []string  `json:"offenders"` // "SOURCE HOST" of those who guessed five times within two minutes
	Begin     time.Time `json:"begin"`
	End       time.Time `json:"end"` // the last line's time
}

// Write writes a log and returns the truth about it.
func Write(w io.Writer, o Options) (Truth, error) {
	if o.Stamp == "" {
		o.Stamp = ISO
	}
	if o.Sources <= 0 {
		o.Sources = 2000
	}
	if o.Begin.IsZero() {
		o.Begin = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	}
	g := newGenerator(o)
	out := bufio.NewWriterSize(w, 256<<10)
	for range o.Lines {
		if _, err := out.Write(g.next()); err != nil {
			return Truth{}, fmt.Errorf("write log: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return Truth{}, fmt.Errorf("write log: %w", err)
	}
	return g.whole(), nil
}

const (
	actors   = 40                    // processes that write at the same time
	meanStep = 20 * time.Millisecond // between lines
)

// line is one that an actor will write.
type line struct {
	tag, text string
	failure   bool // it states a failed guess
	guesses   int  // that it is the one to state
	login     bool
}

// actor is something on a host that writes lines one after the other.
type actor struct {
	host   *host
	pid    int
	source *source
	lines  []line
}

// host is a machine that writes to the log.
type host struct {
	name string
	tag  string // of its sshd's sessions
	v10  bool
	pid  int
	sess int
}

// source is an attacker.
type source struct {
	addr string
	slow bool // it never guesses so often that it offends
	last map[*host]time.Time
}

type generator struct {
	o       Options
	rng     *rand.Rand
	now     time.Time
	hosts   []*host
	sources []*source
	actors  []actor
	buf     []byte
	guesses map[guesser][]time.Time // within the offence's time
	truth   Truth
	guilty  map[guesser]bool
	seen    map[string]bool
}

type guesser struct{ source, host string }

func newGenerator(o Options) *generator {
	g := &generator{
		o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x6b6f6b6b757269)), now: o.Begin, actors: make([]actor, actors),
		guesses: map[guesser][]time.Time{}, guilty: map[guesser]bool{}, seen: map[string]bool{},
	}
	if o.OpenSSH != 10 {
		g.hosts = append(g.hosts, &host{name: "web", tag: "sshd", pid: 1000})
	}
	if o.OpenSSH != 9 {
		g.hosts = append(g.hosts, &host{name: "mail", tag: "sshd-session", v10: true, pid: 2000})
	}
	for i := range o.Sources {
		// 198.18.0.0/15 is for benchmarks (RFC 2544).
		addr := fmt.Sprintf("198.%d.%d.%d", 18+i>>16&1, i>>8&255, i&255)
		if i%10 == 9 {
			addr = fmt.Sprintf("2001:db8:%x:%x::%x", i>>8, i&255+1, i%7+1)
		}
		g.sources = append(g.sources, &source{addr: addr, slow: i%5 == 0, last: map[*host]time.Time{}})
	}
	return g
}

// next returns the next line of the log, with its end.
func (g *generator) next() []byte {
	g.now = g.now.Add(time.Duration(g.rng.Int64N(int64(2 * meanStep))))
	a := &g.actors[g.rng.IntN(len(g.actors))]
	if len(a.lines) == 0 {
		*a = g.actor()
	}
	l := a.lines[0]
	a.lines = a.lines[1:]
	g.note(a, l)
	b := g.buf[:0]
	if g.o.Stamp == RFC3164 {
		b = g.now.AppendFormat(b, time.Stamp)
	} else {
		b = g.now.AppendFormat(b, "2006-01-02T15:04:05.000000-07:00")
	}
	b = append(append(append(append(b, ' '), a.host.name...), ' '), l.tag...)
	if l.tag != "kernel" && l.tag != "sudo" {
		b = append(strconv.AppendInt(append(b, '['), int64(a.pid), 10), ']')
	}
	b = append(append(append(b, ": "...), l.text...), '\n')
	g.buf = b
	return b
}

// note keeps what is true about a line.
func (g *generator) note(a *actor, l line) {
	g.truth.Lines++
	g.truth.Guesses += l.guesses
	if l.failure {
		g.truth.Failures++
	}
	if l.login {
		g.truth.Logins++
	}
	if l.guesses == 0 {
		return
	}
	g.seen[a.source.addr] = true
	k := guesser{a.source.addr, a.host.name}
	list := g.guesses[k]
	for len(list) > 0 && g.stamped(g.now).Sub(list[0]) > offenceTime {
		list = list[1:]
	}
	for range l.guesses {
		list = append(list, g.stamped(g.now))
	}
	if len(list) >= offenceCount {
		g.guilty[k] = true
	}
	g.guesses[k] = list[max(0, len(list)-offenceCount):]
}

// stamped is a time as the log states it.
func (g *generator) stamped(t time.Time) time.Time {
	if g.o.Stamp == RFC3164 {
		return t.Truncate(time.Second)
	}
	return t.Truncate(time.Microsecond)
}

func (g *generator) whole() Truth {
	t := g.truth
	t.Sources, t.Begin, t.End = len(g.seen), g.o.Begin, g.stamped(g.now)
	t.Offenders = []string{}
	for k := range g.guilty {
		t.Offenders = append(t.Offenders, k.source+" "+k.host)
	}
	slices.Sort(t.Offenders)
	return t
}
