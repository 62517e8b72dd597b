package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/bus"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/persona"
	"github.com/kokkuri/kokkuri/internal/store"
)

const (
	maxWritten = 1000            // files in the folder of personas
	keysWithin = 5 * time.Second // for a host to give its keys
)

// personaStore keeps what hosts are like.
type personaStore interface {
	PutPersona(ctx context.Context, host string, p event.Persona, at time.Time) error
	Persona(ctx context.Context, host string) (store.Persona, error)
	Personas(ctx context.Context) ([]store.Persona, error)
	AssignPersona(ctx context.Context, host, persona string, at time.Time) error
	AssignedPersonas(ctx context.Context) (map[string]string, error)
}

// personas knows what each host's pots are to be. What an operator assigned goes first, then what the
// configuration says, then a file that is named like the host, then what the host's agent learnt. Files are read
// whenever they are needed: a persona that was edited holds for the next pot.
type personas struct {
	store personaStore
	dir   string
	fixed map[string]string // by host, from the configuration: a name, or a file
	log   *slog.Logger
}

func newPersonas(s personaStore, c config.Server, log *slog.Logger) *personas {
	p := &personas{store: s, dir: c.Personas, fixed: map[string]string{}, log: log}
	for _, h := range c.Hosts {
		if h.Persona != "" {
			p.fixed[h.Name] = h.Persona
		}
	}
	return p
}

// check says what is wrong with the personas that the configuration names.
func (p *personas) check() error {
	var errs []error
	for host, name := range p.fixed {
		if _, err := persona.Load(p.file(name)); err != nil {
			errs = append(errs, fmt.Errorf("persona of host %s: %w", host, err))
		}
	}
	return errors.Join(errs...)
}

// file is where a written persona lies.
func (p *personas) file(name string) string {
	if strings.ContainsRune(name, '/') || strings.HasSuffix(name, persona.Ending) {
		return name
	}
	return filepath.Join(p.dir, name+persona.Ending)
}

// written is where the persona lies that somebody wrote for a host; empty where nobody has.
func (p *personas) written(host string, assigned map[string]string) (file string) {
	name := assigned[host]
	if name == "" {
		name = p.fixed[host]
	}
	if name != "" {
		return p.file(name)
	}
	if _, err := os.Stat(p.file(host)); err == nil {
		return p.file(host)
	}
	return ""
}

// of returns what a host's pots are to be, or store.ErrNotFound. Where a written persona can't be used, what was
// learnt is.
func (p *personas) of(ctx context.Context, host string) (event.PersonaOf, error) {
	assigned, err := p.store.AssignedPersonas(ctx)
	if err != nil {
		return event.PersonaOf{}, err
	}
	if file := p.written(host, assigned); file != "" {
		written, err := load(file)
		if err == nil {
			written.Host = host
			return written, nil
		}
		p.log.ErrorContext(ctx, "a persona can't be used; what was learnt is", "host", host, "error", err)
	}
	return p.learnt(ctx, host)
}

func load(file string) (event.PersonaOf, error) {
	out := event.PersonaOf{Origin: event.PersonaWritten, File: file}
	if info, err := os.Stat(file); err == nil {
		out.ChangedAt = info.ModTime().UTC()
	}
	var err error
	out.Persona, err = persona.Load(file)
	return out, err
}

func (p *personas) learnt(ctx context.Context, host string) (event.PersonaOf, error) {
	found, err := p.store.Persona(ctx, host)
	if err != nil {
		return event.PersonaOf{}, err
	}
	return event.PersonaOf{Host: host, Origin: event.PersonaLearnt, ChangedAt: found.ChangedAt, Persona: found.Persona}, nil
}

// files are those that somebody wrote: of the folder, and those that the configuration names.
func (p *personas) files() []string {
	found, _ := filepath.Glob(filepath.Join(p.dir, "*"+persona.Ending))
	for _, name := range p.fixed {
		found = append(found, p.file(name))
	}
	slices.Sort(found)
	found = slices.Compact(found)
	return found[:min(len(found), maxWritten)]
}

// list describes every persona.
func (p *personas) list(ctx context.Context) ([]api.Persona, error) {
	assigned, err := p.store.AssignedPersonas(ctx)
	if err != nil {
		return nil, err
	}
	learnt, err := p.store.Personas(ctx)
	if err != nil {
		return nil, err
	}
	users, bad := map[string][]string{}, map[string]bool{}
	out := []api.Persona{}
	for _, file := range p.files() {
		found, err := load(file)
		one := api.Persona{PersonaOf: found, Name: persona.NameOf(file), Hosts: []string{}}
		if err != nil {
			one.Error, bad[file] = err.Error(), true
		}
		out = append(out, one)
	}
	hosts := map[string]bool{}
	for host := range assigned {
		hosts[host] = true
	}
	for host := range p.fixed {
		hosts[host] = true
	}
	for _, l := range learnt {
		hosts[l.Host] = true
	}
	for host := range hosts {
		if file := p.written(host, assigned); file != "" && !bad[file] {
			users[file] = append(users[file], host)
		}
	}
	for i := range out {
		out[i].Hosts = orEmpty(users[out[i].File])
		slices.Sort(out[i].Hosts)
	}
	for _, l := range learnt {
		one := api.Persona{
			PersonaOf: event.PersonaOf{Host: l.Host, Origin: event.PersonaLearnt, ChangedAt: l.ChangedAt, Persona: l.Persona}, Name: l.Host, Hosts: []string{},
		}
		if file := p.written(l.Host, assigned); file == "" || bad[file] {
			one.Hosts = []string{l.Host}
		}
		out = append(out, one)
	}
	return out, nil
}

// findings are the personas that can't be used.
func (p *personas) findings(ctx context.Context) []event.Finding {
	var out []event.Finding
	for _, file := range p.files() {
		if _, err := persona.Load(file); err != nil {
			out = append(out, event.Finding{
				Level: "warning", Subject: "persona " + persona.NameOf(file), Text: err.Error(), Mend: "kokkuri personas validate " + file,
			})
		}
	}
	assigned, err := p.store.AssignedPersonas(ctx)
	if err != nil {
		return out
	}
	for host, name := range assigned {
		if _, err := os.Stat(p.file(name)); errors.Is(err, fs.ErrNotExist) {
			out = append(out, event.Finding{
				Level: "warning", Subject: "host " + host, Text: "its persona " + name + " is not there: " + p.file(name),
				Mend: "write the file, or kokkuri personas assign " + host + " --none",
			})
		}
	}
	return out
}

// takePersona notes what a host's agent says that the host is like.
func (s *Server) takePersona(ctx context.Context, host string, p event.Persona) (struct{}, error) {
	p.Name = host // as its certificate says
	clean, problems := p.Clean()
	if len(problems) > 0 {
		s.log.WarnContext(ctx, "parts of a host's persona are left out", "host", host, "parts", len(problems), "first", problems[0].Error())
	}
	return struct{}{}, s.personas.store.PutPersona(ctx, host, clean, time.Now())
}

// answerPersona tells a node what a host's pots are to be; nothing is known where the origin is empty.
func (s *Server) answerPersona(ctx context.Context, _ string, r event.PersonaRequest) (event.PersonaOf, error) {
	if !config.ValidName(r.Host) {
		return event.PersonaOf{}, fmt.Errorf("host: found %q", cut(r.Host))
	}
	p, err := s.personas.of(ctx, r.Host)
	if errors.Is(err, store.ErrNotFound) {
		return event.PersonaOf{Host: r.Host}, nil
	}
	return p, err
}

// answerNodeKeys hands a node's request for a host's own SSH keys to the host's agent, which decides, and the
// answer back. Nothing of it is stored or logged. The node has to hold a redirect of that host.
func (s *Server) answerNodeKeys(ctx context.Context, node string, r event.PersonaRequest) (event.HostKeys, error) {
	if len(s.decider.Board().Live(func(x event.Redirect) bool { return x.Node == node && x.Host == r.Host })) == 0 {
		return event.HostKeys{}, errors.New("this node holds no redirect of that host")
	}
	ctx, cancel := context.WithTimeout(ctx, keysWithin)
	defer cancel()
	keys, err := bus.Request[event.PersonaRequest, event.HostKeys](ctx, s.conn, bus.KeysSubject(r.Host), r)
	if err != nil {
		return event.HostKeys{}, fmt.Errorf("ask host %s for its SSH host keys: %w", r.Host, err)
	}
	if len(keys.Keys) > 0 {
		s.log.InfoContext(ctx, "a host gave its SSH host keys to a node", "host", r.Host, "node", node)
	}
	return keys, nil
}

// Personas implements api.Personas.
func (b backend) Personas(ctx context.Context) ([]api.Persona, error) {
	return b.s.personas.list(ctx)
}

// Persona implements api.Personas.
func (b backend) Persona(ctx context.Context, name string, learnt bool) (api.Persona, error) {
	list, err := b.s.personas.list(ctx)
	if err != nil {
		return api.Persona{}, err
	}
	find := func(is func(api.Persona) bool) int { return slices.IndexFunc(list, is) }
	isLearnt := func(p api.Persona) bool { return p.Origin == event.PersonaLearnt }
	i := find(func(p api.Persona) bool { return isLearnt(p) && p.Name == name })
	if !learnt {
		if used := find(func(p api.Persona) bool { return slices.Contains(p.Hosts, name) }); used >= 0 {
			i = used
		} else if written := find(func(p api.Persona) bool { return !isLearnt(p) && p.Name == name }); written >= 0 {
			i = written
		}
	}
	if i < 0 {
		return api.Persona{}, store.ErrNotFound
	}
	return list[i], nil
}

// AssignPersona implements api.Personas.
func (b backend) AssignPersona(ctx context.Context, host, name string) (api.Persona, error) {
	if _, ok := b.s.hosts.get(host); !ok {
		return api.Persona{}, api.NotFound("there is no host "+host, "kokkuri hosts ls lists them")
	}
	p := b.s.personas
	if name != "" {
		if _, err := persona.Load(p.file(name)); err != nil {
			return api.Persona{}, api.Refused("persona "+name+": "+err.Error(), "kokkuri personas ls lists those there are")
		}
	}
	if err := p.store.AssignPersona(ctx, host, name, time.Now()); err != nil {
		return api.Persona{}, err
	}
	out, err := b.Persona(ctx, host, false)
	if errors.Is(err, store.ErrNotFound) { // nothing was learnt yet
		return api.Persona{Name: host, Hosts: []string{}}, nil
	}
	return out, err
}
