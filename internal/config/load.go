package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
)

// Override is a value that was given as a flag.
type Override struct {
	Key   string        // of the leaf
	Flag  string        // with its dashes
	Value reflect.Value // of the leaf's type
}

// Options say where a configuration comes from.
type Options struct {
	Path     string   // configuration file; empty: none
	Optional bool     // a missing file is no error (the default places)
	Environ  []string // as os.Environ gives it
	Flags    []Override
}

// Loaded is a configuration with the origin of each of its values.
type Loaded struct {
	Up
	Path     string   // file that was read; empty: none
	Warnings []string // environment variables with Kokkuri's prefix that mean nothing
	origins  map[string]Origin
}

// Load reads, merges and checks a configuration. The error is an Errors where values are wrong.
func Load(o Options) (*Loaded, error) {
	l := &Loaded{origins: map[string]Origin{}}
	if err := SetDefaults(&l.Up); err != nil {
		return nil, err
	}
	data, err := readFile(o)
	if err != nil {
		return nil, err
	}
	var errs Errors
	if data != nil {
		l.Path = o.Path
		d := &decoder{file: o.Path, at: l.origins}
		d.decode(data, &l.Up)
		errs = append(errs, d.errs...)
	}
	errs = append(errs, l.environment(o.Environ)...)
	if err := l.flags(o.Flags); err != nil {
		return nil, err
	}
	c := &validator{origin: l.Origin}
	c.section(reflect.ValueOf(&l.Up).Elem(), "")
	c.relations(&l.Up)
	for _, e := range c.errs {
		if !slices.ContainsFunc(errs, func(earlier *Error) bool { return within(earlier.Key, e.Key) }) {
			errs = append(errs, e)
		}
	}
	if err := errs.asError(); err != nil {
		return nil, err
	}
	return l, nil
}

// within reports whether one key is the other or stands in it.
func within(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return a == b || a != "" && strings.HasPrefix(b, a) && (b[len(a)] == '.' || b[len(a)] == '[')
}

// readFile returns nil where there is no file to read.
func readFile(o Options) ([]byte, error) {
	if o.Path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(o.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.Optional:
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{Origin: Origin{File: o.Path}, Problem: "there is no such file", Allowed: "a configuration file (--config, " + EnvPrefix + "CONFIG)"}
	case err != nil:
		return nil, &Error{Origin: Origin{File: o.Path}, Problem: fmt.Sprintf("can't be read: %v", errors.Unwrap(err)), Allowed: "a file that this user may read"}
	case data == nil:
		data = []byte{}
	}
	return data, nil
}

// environment sets the leaves whose variable is set.
func (l *Loaded) environment(environ []string) Errors {
	leaves := map[string]Leaf{}
	names := []string{}
	for _, leaf := range Leaves(&l.Up) {
		if leaf.Scalar() {
			leaves[leaf.Env()] = leaf
			names = append(names, leaf.Env())
		}
	}
	var errs Errors
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, EnvPrefix) {
			continue
		}
		leaf, ok := leaves[name]
		if !ok {
			l.warn(name, names)
			continue
		}
		origin := Origin{Env: name}
		if err := ParseText(leaf.Value, text); err != nil {
			errs = append(errs, &Error{Origin: origin, Key: leaf.Key, Problem: fmt.Sprintf("found %q", text), Allowed: err.Error()})
			continue
		}
		l.set(leaf.Key, origin)
	}
	return errs
}

func (l *Loaded) warn(name string, names []string) {
	if name == EnvPrefix+"CONFIG" || name == EnvPrefix+"JSON" {
		return
	}
	text := fmt.Sprintf("environment %s: no such setting", name)
	if near := closest(strings.ToLower(name), lower(names)); near != "" {
		text += fmt.Sprintf("; did you mean %s?", strings.ToUpper(near))
	}
	l.Warnings = append(l.Warnings, text)
}

func lower(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = strings.ToLower(s)
	}
	return out
}

// flags sets the leaves that were given as flags.
func (l *Loaded) flags(overrides []Override) error {
	leaves := Leaves(&l.Up)
	for _, o := range overrides {
		i := slices.IndexFunc(leaves, func(leaf Leaf) bool { return leaf.Key == o.Key })
		if i < 0 || leaves[i].Value.Type() != o.Value.Type() {
			return fmt.Errorf("flag %s: there is no key %s of type %s", o.Flag, o.Key, o.Value.Type())
		}
		leaves[i].Value.Set(o.Value)
		l.set(o.Key, Origin{Flag: o.Flag})
	}
	return nil
}

// set notes the origin of a leaf and forgets those of the elements that it replaces.
func (l *Loaded) set(key string, origin Origin) {
	for k := range l.origins {
		if within(key, k) && len(k) > len(key) {
			delete(l.origins, k)
		}
	}
	l.origins[key] = origin
}

// Origin says where a key's value came from; for a part of a list that has no place of its own, where
// the whole came from.
func (l *Loaded) Origin(key string) Origin {
	for {
		o, ok := l.origins[key]
		if ok || !strings.Contains(key, "[") {
			return o
		}
		key = key[:strings.LastIndexAny(key, ".[")]
	}
}
