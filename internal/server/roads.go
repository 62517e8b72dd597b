package server

import (
	"maps"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// roadSilence is how long a road must bring nothing before another may take over.
const roadSilence = 10 * time.Minute

// roadKey names what has one road at a time.
type roadKey struct {
	Host    string
	Service event.Service
}

// road is the one that is evaluated, and when it last brought something.
type road struct {
	Road event.Road
	Last time.Time
}

// roads keeps each host's service on one road, so that a line that came twice counts once. Its
// decisions depend on the stream alone, so that a replay makes the same. It isn't safe for concurrent use.
type roads struct {
	current map[roadKey]road
	fixed   func(host string) string // by configuration: agent, syslog or file; empty: the first that brings something
}

// admit reports whether an event by this road counts.
func (r *roads) admit(k roadKey, by event.Road, at time.Time) bool {
	f := r.fixed(k.Host)
	if f != "" && f != family(by) {
		return false
	}
	cur, ok := r.current[k]
	if f != "" && f != family(cur.Road) {
		ok = false // it was another before it was fixed
	}
	if ok && cur.Road != by && at.Sub(cur.Last) < roadSilence {
		return false
	}
	if cur.Road != by || at.After(cur.Last) {
		r.current[k] = road{Road: by, Last: at}
	}
	return true
}

// family is a road as the configuration names it.
func family(r event.Road) string {
	switch r {
	case event.RoadSyslogTCP, event.RoadSyslogTLS, event.RoadSyslogUDP:
		return "syslog"
	case event.RoadJournal:
		return string(event.RoadAgent)
	case event.RoadAgent, event.RoadFile:
	}
	return string(r)
}

// roadState is a road in a checkpoint.
type roadState struct {
	Host    string        `json:"host"`
	Service event.Service `json:"service"`
	Road    event.Road    `json:"road"`
	Last    time.Time     `json:"last"`
}

func (r *roads) snapshot() []roadState {
	out := make([]roadState, 0, len(r.current))
	for k, v := range maps.All(r.current) {
		out = append(out, roadState{k.Host, k.Service, v.Road, v.Last})
	}
	return out
}

func (r *roads) restore(states []roadState) {
	r.current = make(map[roadKey]road, len(states))
	for _, s := range states {
		r.current[roadKey{s.Host, s.Service}] = road{s.Road, s.Last}
	}
}
