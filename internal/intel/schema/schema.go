// Package schema describes what Kokkuri tells of attackers as JSON Schema.
package schema

import (
	_ "embed"
	"slices"
)

//go:embed kokkuri.schema.json
var text []byte

// Text is the schema (draft 2020-12): a line of `events tail --format json` as a whole, and under $defs Event, Session and Evidence. It is
// made from the types of package event by this package's test, run with -update.
func Text() []byte { return slices.Clone(text) }
