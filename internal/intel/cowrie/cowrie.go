// Package cowrie renders sessions in the event schema of the Cowrie honeypot
// (https://docs.cowrie.org, as of August 2026), which much of the ecosystem reads.
//
// Beyond the schema:
//
//   - src_ip is the attacker: its own address; where an attacker is a prefix, the address that the node
//     saw if that is inside, otherwise the prefix' first. A host that masquerades is never named as source.
//   - dst_ip and dst_port are where the attacker believes to be; 0.0.0.0 (:: for IPv6) and 0 where that is
//     not known.
//   - ttylog is ttylog/SESSION-CHANNEL: what package ttylog writes of that channel. log.closed has size and
//     shasum only where Options.Log knows them.
//   - outfile is downloads/SHA256, and duplicate is always false: files are stored once, whoever sent them.
//   - A password that is kept as a hash only is that hash.
//   - A key that is offered is a login.failed too, with an empty password.
//   - A line that is typed into a shell without a terminal has realm stdin.
//   - Commands, variables and paths are the text itself, as in Cowrie, with U+FFFD for what is no UTF-8;
//     user names, passwords and what the client says of itself are escaped (event.Bytes).
//   - Subsystems, signals, ports to listen on and gaps in the evidence have no event in the schema.
package cowrie

import (
	"iter"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	maxSessions = 4096 // that a renderer follows at once
	maxPrograms = 1024 // of one session that are followed at once
)

// Options say who reports.
type Options struct {
	Sensor string // the sensor's name
	UUID   string // the sensor's identity
	// Log tells of a program's terminal log; it may be nil.
	Log func(session string, channel uint32) (Log, bool)
}

// Log is what a closed terminal log states: bytes of output, and the SHA-256 of all its data, in hex
// (see ttylog.Summary).
type Log struct {
	Size   int64
	SHA256 string
}

// Renderer renders sessions, whole or as they happen. It is not for concurrent use.
type Renderer struct {
	o        Options
	sessions map[string]*track
	order    []string // of sessions, first seen first
}

// track is how far a session was rendered.
type track struct {
	last     int // number of evidence
	closed   bool
	programs map[uint32]program
}

// program is what runs in a channel.
type program struct {
	terminal bool
	began    time.Time
}

// New returns a renderer.
func New(o Options) *Renderer {
	return &Renderer{o: o, sessions: map[string]*track{}}
}

// Render renders a session with all its evidence, in the evidence's order. It ends with session.closed
// where the session has ended.
func (r *Renderer) Render(s event.Session, evidence []event.Evidence) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		v := r.view(s, newTrack())
		if !yield(v.connect()) {
			return
		}
		for _, e := range evidence {
			for _, out := range v.evidence(e) {
				if !yield(out) {
					return
				}
			}
		}
		if s.EndedAt.IsZero() {
			return
		}
		for _, out := range v.closed(s.EndedAt) {
			if !yield(out) {
				return
			}
		}
	}
}

// Connect renders a session's start; nothing where that has been rendered. The renderer follows the
// 4096 sessions that it saw last.
func (r *Renderer) Connect(s event.Session) []Event {
	if r.sessions[s.ID] != nil {
		return nil
	}
	if len(r.order) == maxSessions {
		delete(r.sessions, r.order[0])
		r.order = slices.Delete(r.order, 0, 1)
	}
	t := newTrack()
	r.sessions[s.ID], r.order = t, append(r.order, s.ID)
	return []Event{r.view(s, t).connect()}
}

// Evidence renders a piece of evidence, after the session's start where that has not been rendered.
// Evidence that comes again, by its number, is nothing.
func (r *Renderer) Evidence(s event.Session, e event.Evidence) []Event {
	out := r.Connect(s)
	return append(out, r.view(s, r.sessions[s.ID]).evidence(e)...)
}

// Closed renders the end of a session whose evidence lacks it, at EndedAt; nothing where it has been
// rendered.
func (r *Renderer) Closed(s event.Session) []Event {
	out := r.Connect(s)
	return append(out, r.view(s, r.sessions[s.ID]).closed(s.EndedAt)...)
}

func newTrack() *track { return &track{programs: map[uint32]program{}} }

func (t *track) start(channel uint32, s event.Start, at time.Time) {
	if s.Refused || len(t.programs) >= maxPrograms {
		return
	}
	t.programs[channel] = program{terminal: s.Terminal(), began: at}
}

// view is a session while it is rendered.
type view struct {
	*track

	o Options
	s event.Session
}

func (r *Renderer) view(s event.Session, t *track) view { return view{track: t, o: r.o, s: s} }
