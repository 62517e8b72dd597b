package detect

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

//go:embed rules/*.yaml
var shipped embed.FS

// maxRulesFile bounds a rules file.
const maxRulesFile = 4 << 20

// DefaultRules returns the rules as shipped, with their examples.
func DefaultRules() Rules {
	r, err := shippedRules()
	if err != nil {
		panic(fmt.Sprintf("the rules as shipped are broken: %v", err))
	}
	return r
}

// ShippedFiles returns the text of the rules as shipped, by file name.
func ShippedFiles() map[string][]byte {
	out := map[string][]byte{}
	names, _ := fs.Glob(shipped, "rules/*.yaml") // the pattern is right
	for _, name := range names {
		out[filepath.Base(name)], _ = shipped.ReadFile(name) // it is there
	}
	return out
}

func shippedRules() (Rules, error) {
	files := ShippedFiles()
	var named []namedFile
	for name, data := range files {
		named = append(named, namedFile{"shipped/" + name, data})
	}
	return parseAll(named, nil)
}

// LoadRules reads a rules file, or all *.yaml files of a folder as one set. services are those that rules
// may name beyond [event.Services]. Its error names every fault (see [ParseRules]).
func LoadRules(path string, services ...event.Service) (Rules, error) {
	files, err := readRules(path)
	if err != nil {
		return Rules{}, fmt.Errorf("read rules: %w", err)
	}
	return parseAll(files, services)
}

type namedFile struct {
	name string
	data []byte
}

func readRules(path string) ([]namedFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	if !info.IsDir() {
		data, err := readBounded(path)
		return []namedFile{{path, data}}, err
	}
	names, err := filepath.Glob(filepath.Join(path, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("look into %s: %w", path, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no *.yaml file in it: %w", path, fs.ErrNotExist)
	}
	var out []namedFile
	for _, name := range names {
		data, err := readBounded(name)
		if err != nil {
			return nil, err
		}
		out = append(out, namedFile{name, data})
	}
	return out, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	defer f.Close() //nolint:errcheck // only read from
	data, err := io.ReadAll(io.LimitReader(f, maxRulesFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxRulesFile {
		return nil, fmt.Errorf("%s: it is larger than %d MiB", path, maxRulesFile>>20) //nolint:err113 // told to people
	}
	return data, nil
}

// parseAll reads several files as one set.
func parseAll(files []namedFile, services []event.Service) (Rules, error) {
	slices.SortFunc(files, func(a, b namedFile) int { return strings.Compare(a.name, b.name) })
	var all Rules
	patterns, defined, faults := patternsOf(files)
	all.Patterns = patterns
	known := slices.Concat(event.Services(), services)
	for _, s := range defined {
		if !slices.Contains(known, s) {
			known = append(known, s)
		}
	}
	include := false
	where := map[string]string{}
	for _, f := range files {
		d := &decoder{file: f.name, services: known}
		r := d.document(f.data)
		for i, rule := range r.Rules {
			if before, twice := where[rule.Name]; twice && before != f.name {
				d.failAt(rule.Line, fmt.Sprintf("rules[%d].name", i), fmt.Sprintf("%q, which %s has too", rule.Name, before), "each name once")
			}
			where[rule.Name] = f.name
		}
		faults = append(faults, d.faults...)
		all.Rules = append(all.Rules, r.Rules...)
		all.Lists = append(all.Lists, r.Lists...)
		all.Examples = append(all.Examples, r.Examples...)
		include = include || d.include
	}
	if include {
		others, err := shippedRules()
		if err != nil {
			return Rules{}, err
		}
		all.merge(others)
	}
	faults = append(faults, all.check()...)
	if len(faults) > 0 {
		return Rules{}, errors.Join(faults...)
	}
	return all, nil
}

// check holds together what may be in different files.
func (r Rules) check() []error {
	var faults []error
	for _, rule := range r.Rules {
		if rule.SourceIn != "" && !slices.ContainsFunc(r.Lists, func(l List) bool { return l.Name == rule.SourceIn }) {
			faults = append(faults, &RuleError{File: rule.File, Line: rule.sourceIn.line, Key: rule.sourceIn.key, Found: fmt.Sprintf("%q", rule.SourceIn), Allowed: "names of lists (key lists)"})
		}
	}
	for _, e := range r.Examples {
		for rule := range e.Offences {
			if known, ok := r.Find(rule); !ok || known.File != e.File {
				faults = append(faults, &RuleError{File: e.File, Line: e.Line, Key: e.key + ".offences", Found: fmt.Sprintf("%q", rule), Allowed: "names of rules in this file"})
			}
		}
	}
	return faults
}
