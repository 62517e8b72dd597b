package tail

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/trouble"
)

// SetOptions say which logs to follow and how.
type SetOptions struct {
	Options        // of each log; Path has one %HOST%, or wildcards, in it, Cursor is not used
	Dir     string // keeps the cursors; empty: forgotten at the end
	Hosts   int    // at most so many hosts or files; 4096
}

// Set follows the same log of many hosts, or all files that a pattern with wildcards stands for. Each is found when it, or the
// directory named after the host, appears.
type Set struct {
	o        SetOptions
	glob     *glob  // of a pattern with wildcards; what follows up to suffix is of one without
	before   string // of the path: up to the directory in which the hosts are seen
	prefix   string // of the host's entry in that directory
	suffix   string
	dropped  atomic.Int64
	problems *trouble.Kept

	mu        sync.Mutex
	followers map[string]*Follower
}

// IsSet reports whether path is one for NewSet.
func IsSet(path string) bool {
	return strings.Contains(path, HostPart) || strings.ContainsAny(path, wildcards)
}

// found is one log of a set.
type found struct {
	key  string // that its cursor is named after
	host string // what stood in the place of %HOST%; empty where there was none
	path string // that is followed
}

// NewSet checks the options; it touches nothing.
func NewSet(o SetOptions) (*Set, error) {
	if strings.ContainsAny(o.Path, wildcards) {
		return newGlobSet(o)
	}
	if strings.Count(o.Path, HostPart) != 1 {
		return nil, fmt.Errorf("%w: %q must have one %s in it", ErrPattern, o.Path, HostPart)
	}
	head, tailPart, _ := strings.Cut(o.Path, HostPart)
	whole, err := parsePattern(head + "x" + tailPart)
	if err != nil {
		return nil, err
	}
	o.setDefaults(whole.dated)
	if o.Hosts <= 0 {
		o.Hosts = 4096
	}
	s := &Set{o: o, followers: make(map[string]*Follower), problems: trouble.New(o.Log, "log file")}
	s.before, s.prefix = filepath.Split(head)
	s.suffix, _, _ = strings.Cut(tailPart, "/")
	return s, nil
}

func newGlobSet(o SetOptions) (*Set, error) {
	g, err := parseGlob(o.Path)
	if err != nil {
		return nil, err
	}
	rest, err := parsePattern("/" + g.rest)
	if err != nil {
		return nil, err
	}
	o.setDefaults(rest.dated)
	if o.Hosts <= 0 {
		o.Hosts = 4096
	}
	return &Set{o: o, glob: g, before: literal(g.base), followers: make(map[string]*Follower), problems: trouble.New(o.Log, "log file")}, nil
}

// Watch makes the set share w with others. It is to be called before Run.
func (s *Set) Watch(w *Watcher) { s.o.Watcher = w }

// Run follows until ctx ends and returns nil then. Batches of one host come one at a time, those of several hosts may come at once.
// host is what stood in the place of %HOST%: letters, digits, '.', '-', '_' and ':' only; empty where the pattern has none.
func (s *Set) Run(ctx context.Context, take func(ctx context.Context, host string, b Batch) error) error {
	watcher := s.o.Watcher
	if watcher == nil {
		watcher = NewWatcher(s.o.Log)
		defer watcher.Close()
	}
	known, err := s.known()
	if err != nil {
		return err
	}
	sub := newSubscriber()
	none := ""
	sub.name.Store(&none) // only what comes and goes is of interest
	var running sync.WaitGroup
	defer running.Wait()
	timer := time.NewTimer(s.o.Poll)
	defer timer.Stop()
	watched := ""
	for first := true; ctx.Err() == nil; first = false {
		dir := existing(filepath.Clean(s.expand(s.before)))
		if watched != "" && watched != dir {
			watcher.unsubscribe(watched, sub)
		}
		watched = dir
		if err := watcher.subscribe(dir, sub); err != nil {
			s.problems.Set("watch", event.Finding{
				Level: "warning", Subject: dir, Text: fmt.Sprintf("cannot be watched for new hosts: %v; looking every %s instead", err, s.o.Poll),
				Mend: "let this program read the directory; or raise fs.inotify.max_user_watches with sysctl",
			})
		} else {
			s.problems.Clear("watch")
			if existing(filepath.Clean(s.expand(s.before))) != dir {
				sub.ring() // one in it came before it was watched, and nothing will tell of it
			}
		}
		s.dropped.Store(0)
		for _, log := range s.find() {
			f, err := s.add(log, watcher, s.o.FromHead || known || !first)
			if err != nil {
				return err
			}
			if f == nil {
				continue
			}
			running.Go(func() {
				if err := f.Run(ctx, func(ctx context.Context, b Batch) error { return take(ctx, log.host, b) }); err != nil {
					f.problems.Set("run", event.Finding{Level: "error", Subject: f.o.Path, Text: err.Error(), Mend: "mend what it says and restart"})
				}
			})
		}
		if first && !known {
			if err := s.mark(); err != nil {
				return err
			}
		}
		timer.Reset(s.o.Poll)
		select {
		case <-ctx.Done():
		case <-sub.wake:
		case <-timer.C:
		}
	}
	watcher.unsubscribe(watched, sub)
	return nil
}

// known reports whether this pattern was followed before: then all that is unknown is new.
func (s *Set) known() (bool, error) {
	if s.o.Dir == "" {
		return false, nil
	}
	var was setNote
	b, err := os.ReadFile(s.notePath())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read what was followed: %w", err)
	}
	return json.Unmarshal(b, &was) == nil && was.Pattern == s.o.Path, nil
}

// mark notes that this pattern is followed: once all that was there has been found.
func (s *Set) mark() error {
	if s.o.Dir == "" {
		return nil
	}
	b, err := json.Marshal(setNote{Pattern: s.o.Path})
	if err != nil {
		return fmt.Errorf("note what is followed: %w", err)
	}
	if err := makeDir(s.notePath()); err != nil {
		return err
	}
	if err := os.WriteFile(s.notePath(), b, 0o600); err != nil {
		return fmt.Errorf("note what is followed: %w", err)
	}
	return nil
}

// setNote is what is kept of a pattern.
type setNote struct {
	Pattern string `json:"pattern"`
}

func (s *Set) notePath() string { return filepath.Join(s.o.Dir, "set.json") }

func (s *Set) expand(text string) string {
	p := pattern{text: text}
	return p.at(s.o.Clock())
}

// find lists the logs that are there.
func (s *Set) find() []found {
	if s.glob == nil {
		hosts := s.discover()
		out := make([]found, len(hosts))
		for i, host := range hosts {
			out[i] = found{key: host, host: host, path: strings.Replace(s.o.Path, HostPart, literal(host), 1)}
		}
		return out
	}
	out, cut := s.glob.find(s.o.Hosts)
	if cut {
		s.problems.Set("folders", event.Finding{
			Level: "error", Subject: s.o.Path, Text: fmt.Sprintf("it leads through more than %d folders: some files are not found", maxLooked),
			Mend: "name more of the folders, or split the pattern",
		})
	} else {
		s.problems.Clear("folders")
	}
	if len(out) == 0 && !s.o.Optional {
		s.problems.Set("missing", noneFound(s.o.Path))
	} else {
		s.problems.Clear("missing")
	}
	return out
}

// discover lists the hosts that have an entry.
func (s *Set) discover() []string {
	dir, err := os.Open(filepath.Clean(s.expand(s.before)))
	if err != nil {
		if !s.o.Optional {
			s.problems.Set("missing", event.Finding{
				Level: "warning", Subject: s.o.Path, Text: err.Error(),
				Mend: "is the path right, does the syslog daemon write there, and may this program read it?",
			})
		}
		return nil
	}
	defer func() { _ = dir.Close() }()
	s.problems.Clear("missing")
	prefix, suffix := s.expandName(s.prefix), s.expandName(s.suffix)
	var hosts []string
	for {
		entries, err := dir.ReadDir(256)
		for _, e := range entries {
			host, ok := strings.CutPrefix(e.Name(), prefix)
			host, ok2 := strings.CutSuffix(host, suffix)
			if ok && ok2 && hostLike(host) {
				hosts = append(hosts, host)
			}
		}
		if err != nil || len(hosts) > 16*s.o.Hosts {
			return hosts
		}
	}
}

func (s *Set) expandName(text string) string {
	if text == "" {
		return ""
	}
	return filepath.Base(s.expand("/" + text))
}

func hostLike(name string) bool {
	if name == "" || len(name) > 255 || name[0] == '.' || name[0] == '-' {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_', c == ':':
		default:
			return false
		}
	}
	return true
}

// add makes a follower for a log; nil where there is one already or one too many.
func (s *Set) add(log found, watcher *Watcher, fromHead bool) (*Follower, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.followers[log.key]; ok {
		return nil, nil //nolint:nilnil // nothing to do is no error
	}
	if len(s.followers) >= s.o.Hosts {
		s.dropped.Add(1)
		s.problems.Set("hosts", event.Finding{
			Level: "error", Subject: s.o.Path, Text: fmt.Sprintf("more than %d hosts or files: the others are not followed", s.o.Hosts),
			Mend: "remove the files and directories of hosts that are no more, or split the pattern",
		})
		return nil, nil //nolint:nilnil // reported
	}
	o := s.o.Options
	o.Path = log.path
	o.Watcher, o.FromHead, o.Optional = watcher, fromHead, true
	if s.o.Dir != "" {
		o.Cursor = filepath.Join(s.o.Dir, FileName(log.key))
	}
	f, err := New(o)
	if err != nil {
		return nil, err
	}
	s.followers[log.key] = f
	return f, nil
}

// Stats sums what the hosts' followers counted.
func (s *Set) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := Stats{DroppedHost: s.dropped.Load()}
	for _, f := range s.followers {
		sum.Add(f.Stats())
	}
	return sum
}

// Findings returns what hinders the following now.
func (s *Set) Findings() []event.Finding {
	out := s.problems.List()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.followers {
		out = append(out, f.Findings()...)
	}
	return out
}

// FileName returns the name of a cursor file for text (a path, a pattern, a host): readable, and another for each text.
func FileName(text string) string {
	sum := sha256.Sum256([]byte(text))
	readable := strings.Map(func(c rune) rune {
		if c == '.' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			return c
		}
		return '_'
	}, text)
	return strings.Trim(readable[:min(len(readable), 80)], "_.") + "-" + hex.EncodeToString(sum[:4]) + ".json"
}
