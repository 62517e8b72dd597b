package detect

import (
	"fmt"
	"strconv"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

// definedParser is a parser of a rules file with the places of what is in it.
type definedParser struct {
	parse.Definition

	d        *decoder
	node     ast.Node
	key      string
	patterns []ast.Node
}

// patternsOf reads the parsers of all files, before their rules, which may name the parsers' services, even those
// of a parser that is wrong.
func patternsOf(files []namedFile) (*parse.Patterns, []event.Service, []error) {
	var all []definedParser
	var decoders []*decoder
	for _, f := range files {
		d := &decoder{file: f.name}
		decoders = append(decoders, d)
		all = append(all, d.parsers(f.data)...)
	}
	var faults []error
	for _, d := range decoders {
		faults = append(faults, d.faults...)
	}
	definitions, services := make([]parse.Definition, len(all)), make([]event.Service, len(all))
	for i, p := range all {
		definitions[i], services[i] = p.Definition, p.Service
	}
	if len(all) == 0 || len(faults) > 0 {
		return nil, services, faults
	}
	patterns, wrong := parse.NewPatterns(definitions)
	for _, w := range wrong {
		faults = append(faults, all[w.Definition].fault(w))
	}
	return patterns, services, faults
}

// fault says where in its file a definition is wrong.
func (p definedParser) fault(w *parse.PatternError) error {
	n, key := p.node, p.key+"."+w.Key
	if w.Pattern >= 0 {
		n, key = p.patterns[w.Pattern], fmt.Sprintf("%s.patterns[%d].%s", p.key, w.Pattern, w.Key)
	}
	return &RuleError{File: p.d.file, Line: n.GetToken().Position.Line, Key: key, Found: w.Found, Allowed: w.Allowed}
}

// parsers reads what is under the key parsers; what else is wrong with the file is found with its rules.
func (d *decoder) parsers(data []byte) []definedParser {
	file, err := parser.ParseBytes(data, 0)
	if err != nil || len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil
	}
	var values []*ast.MappingValueNode
	switch n := file.Docs[0].Body.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	}
	var out []definedParser
	for _, v := range values {
		if v.Key.GetToken().Value != "parsers" {
			continue
		}
		for i, item := range d.sequence(v.Value, "parsers") {
			out = append(out, d.parser(item, fmt.Sprintf("parsers[%d]", i)))
		}
	}
	return out
}

func (d *decoder) parser(n ast.Node, key string) definedParser {
	p := definedParser{d: d, node: n, key: key}
	d.mapping(n, key, []field{
		{"name", true, func(n ast.Node, key string) { p.Name = d.name(n, key) }},
		{"service", true, func(n ast.Node, key string) { p.Service = event.Service(d.text(n, key)) }},
		{"programs", true, func(n ast.Node, key string) {
			for i, item := range d.sequence(n, key) {
				p.Programs = append(p.Programs, d.text(item, fmt.Sprintf("%s[%d]", key, i)))
			}
		}},
		{"exe", false, func(n ast.Node, key string) { p.Exe = d.text(n, key) }},
		{"uid", false, func(n ast.Node, key string) { p.UID = strconv.Itoa(d.number(n, key, 0, 1<<31-1)) }},
		{"patterns", true, func(n ast.Node, key string) {
			for i, item := range d.sequence(n, key) {
				p.patterns = append(p.patterns, item)
				p.Patterns = append(p.Patterns, d.pattern(item, fmt.Sprintf("%s[%d]", key, i)))
			}
		}},
	})
	return p
}

func (d *decoder) pattern(n ast.Node, key string) parse.PatternDefinition {
	var p parse.PatternDefinition
	d.mapping(n, key, []field{
		{"pattern", true, func(n ast.Node, key string) { p.Text = d.text(n, key) }},
		{"kind", true, func(n ast.Node, key string) {
			p.Kind = oneOf(d, n, key, event.AuthFailed, event.AuthOK, event.Probe, event.Context)
		}},
		{"method", false, func(n ast.Node, key string) { p.Method = d.text(n, key) }},
	})
	return p
}
