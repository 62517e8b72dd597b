package parse

import (
	"maps"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Note is what a line's event does not say of the line.
type Note struct {
	// Service is the program's; empty where the line's program is not known.
	Service event.Service
	// Unknown says that the program is known and the message is not: it states nothing of the service, or has a form
	// that its reader doesn't know.
	Unknown bool
	// NoAddress says that a guess, a login or a probe names no address: it can't count against anybody.
	NoAddress bool
	// Vouched says that the road tells who wrote the line, so that nobody else can have.
	Vouched bool
	// Forged says that the line states something, and that who wrote it can't be the program that it names.
	Forged bool
	// Beside says that the line is of a log which tells what the service's main log doesn't (MariaDB's server_audit): it may come
	// by another road.
	Beside bool
	// Local says that the line's time has neither year nor zone.
	Local bool
}

// lacksAddress says whether an event would count against its source, had it one.
func lacksAddress(e *event.Event) bool {
	if e.Source.IsValid() {
		return false
	}
	switch e.Kind {
	case event.AuthFailed, event.AuthOK, event.Probe:
		return true
	case event.Context, event.None:
	}
	return false
}

// Stats count lines by service.
type Stats struct {
	NoAddress map[event.Service]uint64 // guesses, logins and probes without an address
	Forged    map[event.Service]uint64 // statements by a writer that can't be the program
	Unknown   map[event.Service]uint64 // messages of known programs in no known form
}

func (s *Stats) add(n Note) {
	if n.NoAddress {
		count(&s.NoAddress, n.Service)
	}
	if n.Forged {
		count(&s.Forged, n.Service)
	}
	if n.Unknown {
		count(&s.Unknown, n.Service)
	}
}

// count adds one. Services are few: the known ones and those of patterns.
func count(m *map[event.Service]uint64, s event.Service) {
	if *m == nil {
		*m = map[event.Service]uint64{}
	}
	(*m)[s]++
}

func (s *Stats) clone() Stats {
	return Stats{maps.Clone(s.NoAddress), maps.Clone(s.Forged), maps.Clone(s.Unknown)}
}
