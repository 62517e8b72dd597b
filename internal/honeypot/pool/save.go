package pool

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// bookFile is the form in which leases outlive a process.
type bookFile struct {
	Version int          `json:"version"`
	Leases  []*entry     `json:"leases"`
	Resting []restedPort `json:"resting"`
	Left    []leftPot    `json:"left,omitempty"`
}

type leftPot struct {
	Attacker netip.Prefix `json:"attacker"`
	Host     string       `json:"host"`
	At       time.Time    `json:"at"`
}

type restedPort struct {
	Source netip.Prefix `json:"source"`
	Port   uint16       `json:"port"`
	Until  time.Time    `json:"until"`
}

const bookVersion = 1

func (b *Book) load() error {
	data, err := os.ReadFile(b.o.File)
	if errors.Is(err, os.ErrNotExist) || b.o.File == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read leases: %w", err)
	}
	var f bookFile
	err = json.Unmarshal(data, &f)
	if err == nil && f.Version != bookVersion {
		err = fmt.Errorf("version %d is not %d", f.Version, bookVersion)
	}
	if err != nil {
		// The server knows the leases too and tells them again.
		broken := b.o.File + ".broken"
		b.log.Error("leases cannot be read; starting without", "file", b.o.File, "kept_as", broken, "error", err)
		if err := os.Rename(b.o.File, broken); err != nil {
			return fmt.Errorf("put unreadable leases aside: %w", err)
		}
		return nil
	}
	now := b.o.Now()
	for _, r := range f.Resting {
		if r.Until.After(now) {
			b.resting[Source{Prefix: r.Source, Port: r.Port}] = r.Until
		}
	}
	for _, l := range f.Left {
		b.left[event.PotKey{Attacker: l.Attacker, Host: l.Host}] = l.At
	}
	for _, e := range f.Leases {
		b.keep(e) // those that are over end at the first tick
		for _, s := range e.sources() {
			b.slots[s] = e
		}
	}
	b.settled = true
	return nil
}

// Save writes the leases to their file at once.
func (b *Book) Save() error {
	if b.o.File == "" {
		return nil
	}
	b.saveMu.Lock()
	defer b.saveMu.Unlock()
	b.mu.Lock()
	f := bookFile{Version: bookVersion}
	for _, e := range b.leases {
		f.Leases = append(f.Leases, e)
	}
	for s, until := range b.resting {
		f.Resting = append(f.Resting, restedPort{Source: s.Prefix, Port: s.Port, Until: until})
	}
	for k, at := range b.left {
		f.Left = append(f.Left, leftPot{Attacker: k.Attacker, Host: k.Host, At: at})
	}
	data, err := json.Marshal(f)
	b.mu.Unlock()
	if err == nil {
		err = writeFile(b.o.File, data)
	}
	if err != nil {
		return fmt.Errorf("save leases: %w", err)
	}
	return nil
}

// writeFile replaces a file so that a crash leaves the old one or the new one.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("make a temporary file: %w", err)
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone once it is renamed
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("open the folder of %s: %w", path, err)
	}
	defer dir.Close() //nolint:errcheck // read-only
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync the folder of %s: %w", path, err)
	}
	return nil
}
