package cli

import (
	"fmt"
	"strings"

	"github.com/kokkuri/kokkuri/internal/cli/safe"
	"github.com/kokkuri/kokkuri/internal/event"
)

// describeEgress says in one line what a pot sent out. It holds an attacker's bytes: escape it.
func describeEgress(e event.Egress) string {
	switch e.What {
	case "name":
		out := fmt.Sprintf("asks for %s %s: %s", e.Type, string(e.Name), e.Code)
		if len(e.Answer) > 0 {
			out += " " + strings.Join(e.Answer, ", ")
		}
		return out
	case "request":
		out := string(e.Method) + " " + string(e.URL)
		if e.Status != 0 {
			out += fmt.Sprintf(", answered %d", e.Status)
		}
		if e.How != "" && e.How != "sinkhole" {
			out += " (" + e.How + ")"
		}
		return out
	case "dropped":
		return fmt.Sprintf("%d more, which are only counted", e.Count)
	}
	out := e.What + " to " + endpoint(e.Destination)
	if e.Name != "" {
		out += " (" + string(e.Name) + ")"
	}
	if e.Protocol != "" {
		out += " " + e.Protocol
	}
	if e.Bytes > 0 {
		out += ", " + bytes(e.Bytes)
	}
	if e.Data != "" {
		out += ": " + safe.Cut(string(e.Data), widest)
	}
	return out
}
