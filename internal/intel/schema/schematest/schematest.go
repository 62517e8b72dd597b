// Package schematest holds what is told against the schema.
package schematest

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kokkuri/kokkuri/internal/intel/schema"
)

const address = "kokkuri.schema.json"

// Schema is the schema, or one of its definitions.
type Schema struct{ s *jsonschema.Schema }

// Open returns the definition of a name; the whole where it is empty.
func Open(definition string) (Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema.Text()))
	if err != nil {
		return Schema{}, fmt.Errorf("read the schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(address, doc); err != nil {
		return Schema{}, fmt.Errorf("read the schema: %w", err)
	}
	at := address
	if definition != "" {
		at += "#/$defs/" + definition
	}
	s, err := c.Compile(at)
	if err != nil {
		return Schema{}, fmt.Errorf("compile the schema: %w", err)
	}
	return Schema{s}, nil
}

// Check says what of a value, as it is encoded, is not as the schema says.
func (s Schema) Check(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode it: %w", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("read it again: %w", err)
	}
	if err := s.s.Validate(doc); err != nil {
		return fmt.Errorf("%s: %w", data, err)
	}
	return nil
}
