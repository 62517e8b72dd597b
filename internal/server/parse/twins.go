package parse

import (
	"net/netip"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	maxTwins = 4096            // connections whose prompts are remembered
	twinLife = 5 * time.Minute // longer than sshd's LoginGraceTime
)

// promptMethod is the one method whose guesses sshd states in two lines of which either may be missing.
const promptMethod = "keyboard-interactive/pam"

// twins settles which line of a guess at PAM's prompt counts. sshd writes, of one process:
//
//	error: PAM: Authentication failure for [illegal user ]X from A      at every guess
//	Failed keyboard-interactive/pam for [invalid user ]X from A port P  at every guess of LogLevel VERBOSE; at INFO for
//	                                                                    unknown X, and for known X after half of MaxAuthTries;
//	                                                                    and once more where a prompt was left unanswered
//
// (seen with 8.4, 9.2 and 10.0). For an unknown X the second counts, since it has the port. For a known one
// the first counts, else a guesser who reconnects after two would never be seen. A second line without
// a first counts unless the connection has had first lines: then it is the prompt left unanswered.
type twins struct {
	byPrompt map[prompt]*owed
}

type prompt struct {
	host, pid, account string
	source             netip.Addr
}

type owed struct {
	counted  int // guesses that a first line counted and whose second may come
	expected int // guesses of unknown users whose second line is to count
	last     time.Time
}

// twin is what of a line tells its guess's other line.
type twin struct {
	pid      string
	first    firstLine
	repeated int
}

// settle changes e, read from a line of the process tw.pid, where the line restates a guess.
func (t *twins) settle(e *event.Event, tw twin) {
	first, repeated := tw.first, tw.repeated
	if first == notFirst && (e.Kind != event.AuthFailed || e.Method != promptMethod) || !e.Source.IsValid() {
		return
	}
	k := prompt{e.Host, tw.pid, e.Account, e.Source}
	o := t.byPrompt[k]
	if o != nil && e.Time.Sub(o.last) > twinLife {
		o = nil
		delete(t.byPrompt, k)
	}
	switch first {
	case firstOfKnown:
		o = t.remember(k, o)
		o.counted += repeated
		e.Kind, e.Method, e.Attempts = event.AuthFailed, promptMethod, repeated
	case firstOfUnknown:
		o = t.remember(k, o)
		o.expected += repeated
	case notFirst:
		if o == nil {
			return
		}
		restated := min(o.counted, e.Attempts)
		o.counted -= restated
		guesses := min(o.expected, e.Attempts-restated)
		o.expected -= guesses
		e.Attempts = guesses
		if guesses == 0 {
			e.Kind = event.Context
		}
	}
	o.last = e.Time
}

func (t *twins) remember(k prompt, o *owed) *owed {
	if o != nil {
		return o
	}
	if t.byPrompt == nil || len(t.byPrompt) >= maxTwins {
		t.byPrompt = make(map[prompt]*owed)
	}
	o = &owed{}
	t.byPrompt[k] = o
	return o
}

// firstLine says whether a message is the first line of a guess at PAM's prompt.
type firstLine uint8

const (
	notFirst firstLine = iota
	firstOfKnown
	firstOfUnknown
)
