package parse

import "github.com/kokkuri/kokkuri/internal/event"

// Patterns is a placeholder until below.
type Patterns struct{}

func (p *Patterns) programOf([]byte) program                   { return program{} }
func (p *Patterns) serves(event.Service) bool                  { return false }
func (p *Patterns) message(event.Service, []byte) (fact, bool) { return fact{}, false }
