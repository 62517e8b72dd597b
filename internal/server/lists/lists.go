// Package lists keeps lists of addresses that somebody else publishes: read from files and URLs, refreshed, bounded, and the
// last good one kept when a refresh fails.
package lists

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Source says where a list comes from.
type Source struct {
	Name       string
	File       string // path; empty where it comes from a URL
	URL        string
	Refresh    time.Duration // how often it is read again
	MaxEntries int           // a longer one is refused
	Optional   bool          // a file that isn't there is an empty list
}

// Options of a Set.
type Options struct {
	Dir    string           // where what URLs gave is kept
	Client *http.Client     // default: one that waits 30 seconds
	Now    func() time.Time // clock; time.Now by default
	Log    *slog.Logger
}

// Set answers whether an address is on a list. It is safe for concurrent use.
type Set struct {
	opts    Options
	tables  atomic.Pointer[map[string]*bart.Lite]
	changed chan struct{}

	mu    sync.Mutex
	lists map[string]*list
}

// list is what is known of one.
type list struct {
	Source

	table   *bart.Lite
	entries int
	skipped int       // lines that are no address
	readAt  time.Time // of what holds; zero before
	due     time.Time
	tag     string // of the URL's answer, for asking whether it changed
	fault   string // why the last refresh failed; empty where it did not
}

// fetchWithin is how long a URL may take.
const fetchWithin = 30 * time.Second

// New makes a set without lists.
func New(o Options) *Set {
	if o.Client == nil {
		o.Client = &http.Client{Timeout: fetchWithin}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Set{opts: o, changed: make(chan struct{}, 1), lists: map[string]*list{}}
	s.publish()
	return s
}

// Contains says whether an address is on a list.
func (s *Set) Contains(name string, a netip.Addr) bool {
	t := (*s.tables.Load())[name]
	return t != nil && t.Contains(event.Canonical(a))
}

// Configure says which lists there are. Those that were there stay as they are; new ones are read at once from their file,
// or from what was kept of their URL. What can't be read is an empty list until it can.
func (s *Set) Configure(sources []Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	former := s.lists
	s.lists = map[string]*list{}
	for _, src := range sources {
		if l, ok := former[src.Name]; ok && l.File == src.File && l.URL == src.URL {
			l.Source = src
			s.lists[src.Name] = l
			continue
		}
		l := &list{Source: src}
		s.lists[src.Name] = l
		if src.File != "" {
			s.take(l)(s.readFile(src))
			continue
		}
		if got, err := s.readKept(src); err == nil {
			s.take(l)(got, nil)
			l.due = time.Time{} // it may be old
		}
	}
	s.publish()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// take notes what reading a list gave; the lock is held.
func (s *Set) take(l *list) func(content, error) {
	return func(c content, err error) {
		l.due = s.opts.Now().Add(l.Refresh)
		switch {
		case errors.Is(err, errUnchanged):
			l.fault, l.readAt = "", s.opts.Now()
		case err != nil:
			l.fault = err.Error()
		default:
			l.table, l.entries, l.skipped, l.tag = c.table, c.entries, c.skipped, c.tag
			l.readAt, l.fault = c.at, ""
		}
	}
}

// publish shows the tables to Contains; the lock is held, or nobody else is there yet.
func (s *Set) publish() {
	tables := make(map[string]*bart.Lite, len(s.lists))
	for name, l := range s.lists {
		if l.table != nil {
			tables[name] = l.table
		}
	}
	s.tables.Store(&tables)
}

// Run refreshes the lists until ctx ends.
func (s *Set) Run(ctx context.Context) error {
	for {
		wait := s.refresh(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-s.changed:
			timer.Stop()
		}
	}
}

// refresh reads the lists that are due and returns how long until the next is.
func (s *Set) refresh(ctx context.Context) time.Duration {
	for _, name := range s.due() {
		s.mu.Lock()
		l, ok := s.lists[name]
		if !ok {
			s.mu.Unlock()
			continue
		}
		src, tag := l.Source, l.tag
		s.mu.Unlock()
		got, err := s.read(ctx, src, tag) // not under the lock: it may take its time
		if ctx.Err() != nil {
			return 0
		}
		s.mu.Lock()
		if s.lists[name] == l && l.Source == src {
			s.take(l)(got, err)
			s.publish()
		}
		s.mu.Unlock()
		if err != nil && !errors.Is(err, errUnchanged) {
			s.opts.Log.WarnContext(ctx, "list not refreshed; what it held before holds on", "list", name, "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := time.Hour
	for _, l := range s.lists {
		wait = min(wait, max(l.due.Sub(s.opts.Now()), time.Second))
	}
	return wait
}

func (s *Set) due() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.lists)) {
		if !s.lists[name].due.After(s.opts.Now()) {
			out = append(out, name)
		}
	}
	return out
}

func (s *Set) read(ctx context.Context, src Source, tag string) (content, error) {
	if src.File != "" {
		return s.readFile(src)
	}
	return s.fetch(ctx, src, tag)
}

// Findings are what doctor has to say of the lists.
func (s *Set) Findings() []event.Finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []event.Finding
	for _, name := range slices.Sorted(maps.Keys(s.lists)) {
		l := s.lists[name]
		where := l.File + l.URL
		switch {
		case l.fault != "" && l.readAt.IsZero():
			out = append(out, event.Finding{Level: "error", Subject: "list " + name, Text: "it was never read, so nobody is on it: " + l.fault, Mend: "see to " + where})
		case l.fault != "":
			out = append(out, event.Finding{Level: "warning", Subject: "list " + name, Text: fmt.Sprintf("not refreshed since %s: %s", l.readAt.UTC().Format(time.RFC3339), l.fault), Mend: "see to " + where})
		case l.skipped > 0:
			out = append(out, event.Finding{Level: "warning", Subject: "list " + name, Text: fmt.Sprintf("%d of its lines are no address or network and were left out", l.skipped), Mend: "see to " + where})
		}
	}
	return out
}

// Entries says how many entries each list has.
func (s *Set) Entries() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for name, l := range s.lists {
		out[name] = l.entries
	}
	return out
}
