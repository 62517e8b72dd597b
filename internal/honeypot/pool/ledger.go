package pool

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/kokkuri/kokkuri/internal/event"
)

// ledger keeps which container belongs to whom, over restarts. A container that it does not know is
// nobody's, and nobody gets it: it may have been somebody's.
type ledger struct {
	path string // empty: it is not kept

	mu     sync.Mutex
	owners map[string]ownership // by container id
	gen    uint64               // changes so far
	saved  uint64               // of them, on the disk

	saving sync.Mutex
}

type ledgerFile struct {
	Version int          `json:"version"`
	Pots    []ledgerLine `json:"pots"`
}

type ledgerLine struct {
	event.PotKey

	ID  string `json:"id"`
	Run string `json:"run,omitempty"` // in which it was made its attacker's machine
}

type ownership struct {
	event.PotKey

	run string
}

const ledgerVersion = 1

func openLedger(path string, log *slog.Logger) *ledger {
	l := &ledger{path: path, owners: make(map[string]ownership)}
	if path == "" {
		return l
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return l
	}
	var f ledgerFile
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err == nil && f.Version != ledgerVersion {
		err = fmt.Errorf("version %d is not %d", f.Version, ledgerVersion)
	}
	if err != nil {
		broken := path + ".broken"
		log.Error("whose pots there are cannot be read; they are removed, and attackers get new ones", "file", path, "kept_as", broken, "error", err)
		_ = os.Rename(path, broken)
		return l
	}
	for _, line := range f.Pots {
		l.owners[line.ID] = ownership{PotKey: line.PotKey, run: line.Run}
	}
	return l
}

func (l *ledger) owner(id string) (event.PotKey, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o, ok := l.owners[id]
	return o.PotKey, ok
}

// containers are those that belong to somebody.
func (l *ledger) containers() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.owners))
}

// dressed returns the run in which a container was made its attacker's machine.
func (l *ledger) dressed(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owners[id].run
}

// dress notes that run.
func (l *ledger) dress(id, run string) error {
	l.mu.Lock()
	o, ok := l.owners[id]
	if ok {
		o.run = run
		l.owners[id] = o
	}
	l.gen++
	want := l.gen
	l.mu.Unlock()
	return l.save(want)
}

// put gives a container to an attacker. When it returns, that is on the disk.
func (l *ledger) put(id string, k event.PotKey) error {
	l.mu.Lock()
	l.owners[id] = ownership{PotKey: k}
	l.gen++
	want := l.gen
	l.mu.Unlock()
	return l.save(want)
}

func (l *ledger) drop(id string) error {
	l.mu.Lock()
	_, known := l.owners[id]
	delete(l.owners, id)
	l.gen++
	want := l.gen
	l.mu.Unlock()
	if !known {
		return nil
	}
	return l.save(want)
}

// save writes the ledger unless somebody has meanwhile, with all that this caller changed: many who
// come at once wait for the disk together.
func (l *ledger) save(want uint64) error {
	if l.path == "" {
		return nil
	}
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	if l.saved >= want {
		l.mu.Unlock()
		return nil
	}
	gen := l.gen
	owners := maps.Clone(l.owners)
	l.mu.Unlock()
	f := ledgerFile{Version: ledgerVersion}
	for id, o := range owners {
		f.Pots = append(f.Pots, ledgerLine{PotKey: o.PotKey, ID: id, Run: o.run})
	}
	data, err := json.Marshal(f)
	if err == nil {
		err = writeFile(l.path, data)
	}
	if err != nil {
		return fmt.Errorf("keep whose pot it is: %w", err)
	}
	l.mu.Lock()
	l.saved = gen
	l.mu.Unlock()
	return nil
}
