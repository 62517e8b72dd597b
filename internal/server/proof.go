package server

import (
	"slices"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// roadOf is a road by which a host's lines come.
type roadOf struct {
	host string
	road event.Road
}

// proven notes whether a line that counts says who wrote it, as the newest of its road. The lock is held.
func (p *pipeline) proven(b event.Batch, line []byte) {
	if b.Road == event.RoadAgent || b.Road == event.RoadJournal {
		return // the agent tells of its own roads
	}
	p.proof[roadOf{b.Host, b.Road}] = parse.HasWriter(line)
}

// unproven are the roads by which lines of a host come that don't say who wrote them.
func (p *pipeline) unproven(host string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for r, says := range p.proof {
		if r.host == host && !says {
			out = append(out, string(r.road))
		}
	}
	slices.Sort(out)
	return out
}
