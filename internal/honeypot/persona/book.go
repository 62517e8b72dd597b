// Package persona knows what a node's pots are to be: it asks the server, keeps the answers on disk, and
// holds each attacker's machine to what it was at first.
package persona

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	fresh     = 30 * time.Second // how long an answer holds
	askWithin = 2 * time.Second  // who makes a pot waits no longer for the server
	maxHosts  = 4096             // of which personas are kept
)

// Options of a book.
type Options struct {
	Dir string // where answers are kept
	// Ask asks the server for a host's persona; one without an origin is not known.
	Ask func(ctx context.Context, host string) (event.PersonaOf, error)
	// Learnt is called, by Run, when a host's persona is another than before; may be nil.
	Learnt func(ctx context.Context, p event.PersonaOf)
	Log    *slog.Logger
}

// Book is what a node knows of personas. Its methods may be called concurrently; Run has to run for Want to
// get anywhere.
type Book struct {
	o      Options
	log    *slog.Logger
	wanted chan struct{}

	mu    sync.Mutex
	hosts map[string]entry
	pins  map[string]event.PersonaOf // by pot
	queue map[string]bool            // hosts to ask for
}

type entry struct {
	Of    event.PersonaOf `json:"of"`
	asked time.Time
}

// Open reads what an earlier process of the node kept; what is damaged is asked for anew.
func Open(o Options) (*Book, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Learnt == nil {
		o.Learnt = func(context.Context, event.PersonaOf) {}
	}
	b := &Book{
		o: o, log: o.Log, wanted: make(chan struct{}, 1), hosts: map[string]entry{}, pins: map[string]event.PersonaOf{}, queue: map[string]bool{},
	}
	for _, dir := range []string{o.Dir, b.folder(hostsFolder), b.folder(potsFolder)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("keep personas: %w", err)
		}
	}
	for file, p := range b.load(hostsFolder) {
		if p.Host != "" {
			b.hosts[p.Host] = entry{Of: p}
			continue
		}
		_ = os.Remove(file)
	}
	for file, p := range b.load(potsFolder) {
		b.pins[filepath.Base(file)] = p
	}
	return b, nil
}

const (
	hostsFolder = "hosts"
	potsFolder  = "pots"
)

func (b *Book) folder(name string) string { return filepath.Join(b.o.Dir, name) }

func (b *Book) load(folder string) map[string]event.PersonaOf {
	out := map[string]event.PersonaOf{}
	files, _ := os.ReadDir(b.folder(folder))
	for _, f := range files {
		path := filepath.Join(b.folder(folder), f.Name())
		var p event.PersonaOf
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, &p)
		}
		if err != nil || filepath.Ext(path) == ".new" {
			b.log.Warn("a persona that was kept is damaged; it is asked for anew", "file", path, "error", err)
			_ = os.Remove(path)
			continue
		}
		p.Persona, _ = p.Persona.Clean()
		out[path] = p
	}
	return out
}

// save replaces a file in one step, durably.
func (b *Book) save(folder, name string, p event.PersonaOf) error {
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("keep a persona: %w", err)
	}
	path := filepath.Join(b.folder(folder), name)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("keep a persona: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("keep a persona: %w", err)
	}
	return nil
}

// Want has a host's persona asked for soon.
func (b *Book) Want(host string) {
	b.mu.Lock()
	if time.Since(b.hosts[host].asked) > fresh && len(b.queue) < maxHosts {
		b.queue[host] = true
	}
	b.mu.Unlock()
	select {
	case b.wanted <- struct{}{}:
	default:
	}
}

// Run asks for what is wanted until ctx is done.
func (b *Book) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wanted:
		}
		b.mu.Lock()
		hosts := slices.Sorted(maps.Keys(b.queue))
		clear(b.queue)
		b.mu.Unlock()
		for _, host := range hosts {
			if b.isFresh(host) { // asked for meanwhile
				continue
			}
			if _, err := b.ask(ctx, host); err != nil && ctx.Err() == nil {
				b.log.WarnContext(ctx, "a host's persona is not known; its pots are what they were", "host", host, "error", err)
			}
		}
	}
}

func (b *Book) isFresh(host string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Since(b.hosts[host].asked) <= fresh
}

// ask asks the server and keeps the answer.
func (b *Book) ask(ctx context.Context, host string) (event.PersonaOf, error) {
	asked, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	p, err := b.o.Ask(asked, host)
	if err != nil {
		return p, fmt.Errorf("persona of host %s: %w", host, err)
	}
	p.Host = host
	p.Persona, _ = p.Persona.Clean()
	b.mu.Lock()
	old, known := b.hosts[host]
	changed := !known || !same(old.Of, p)
	if len(b.hosts) < maxHosts || known {
		b.hosts[host] = entry{Of: p, asked: time.Now()}
	}
	if changed {
		if err := b.save(hostsFolder, host, p); err != nil {
			b.log.ErrorContext(ctx, "a persona is not kept", "host", host, "error", err)
		}
	}
	b.mu.Unlock()
	if changed && p.Origin != "" {
		b.o.Learnt(ctx, p)
	}
	return p, nil
}

func same(a, b event.PersonaOf) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// Hosts returns the last known persona of every host.
func (b *Book) Hosts() []event.PersonaOf {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]event.PersonaOf, 0, len(b.hosts))
	for _, host := range slices.Sorted(maps.Keys(b.hosts)) {
		out = append(out, b.hosts[host].Of)
	}
	return out
}

// Of returns what an attacker meets: what its pot is, and where it has none, what one would be. It never waits.
func (b *Book) Of(k event.PotKey) event.PersonaOf {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p, ok := b.pins[pin(k)]; ok {
		return p
	}
	return b.hosts[k.Host].Of
}

// Pin decides what an attacker's pot is from now on, until Unpin. It waits for the server a moment where what is
// known is old.
func (b *Book) Pin(ctx context.Context, k event.PotKey) (event.PersonaOf, error) {
	b.mu.Lock()
	pinned, ok := b.pins[pin(k)]
	known := b.hosts[k.Host]
	b.mu.Unlock()
	if ok {
		return pinned, nil
	}
	p := known.Of
	if time.Since(known.asked) > fresh {
		if asked, err := b.ask(ctx, k.Host); err == nil {
			p = asked
		} else if ctx.Err() == nil {
			b.log.WarnContext(ctx, "the server does not tell a host's persona", "host", k.Host, "known", known.Of.Origin != "", "error", err)
		}
	}
	p.Host = k.Host
	b.mu.Lock()
	defer b.mu.Unlock()
	if pinned, ok := b.pins[pin(k)]; ok { // meanwhile
		return pinned, nil
	}
	if err := b.save(potsFolder, pin(k), p); err != nil {
		return p, err
	}
	b.pins[pin(k)] = p
	return p, nil
}

// Unpin forgets what an attacker's pot was.
func (b *Book) Unpin(k event.PotKey) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pins, pin(k))
	if err := os.Remove(filepath.Join(b.folder(potsFolder), pin(k))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget a persona: %w", err)
	}
	return nil
}

// pin names a pot in a folder.
func pin(k event.PotKey) string {
	sum := sha256.Sum256([]byte(k.Attacker.String() + " " + k.Host))
	return hex.EncodeToString(sum[:16])
}
