package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	desiredFile  = "desired.json"
	releasedFile = "released.json"
)

// released is what `release --all` leaves behind, so that neither a running agent nor one that starts
// later brings back what was released, also while the server is dead and still wants it.
type released struct {
	At  time.Time `json:"at"` // everything that was created up to then, by the server's clock
	IDs []string  `json:"ids"`
}

func (r released) covers(x event.Redirect) bool {
	return !x.CreatedAt.After(r.At) || slices.Contains(r.IDs, x.ID)
}

// desired is what the server wants of this host, kept on disk so that an agent that starts while the
// server is dead goes on where the former ended. It is safe for concurrent use.
type desired struct {
	dir string

	mu       sync.Mutex
	state    event.Desired
	skew     time.Duration // of the server's clock against ours
	released released
}

// loadDesired reads what an earlier run kept; files that are missing are none.
func loadDesired(dir string) (*desired, error) {
	d := &desired{dir: dir}
	// The server sends everything anew; a power loss may have damaged what we kept.
	if err := readJSON(filepath.Join(dir, desiredFile), &d.state); errors.Is(err, errDamaged) {
		d.state = event.Desired{}
	} else if err != nil {
		return nil, err
	}
	// What an operator released must not come back because we can't read when.
	if err := readJSON(filepath.Join(dir, releasedFile), &d.released); errors.Is(err, errDamaged) {
		d.released = released{At: time.Now()}
	} else if err != nil {
		return nil, err
	}
	return d, nil
}

// replace takes the whole state from the server. An older one than is known already changes nothing.
func (d *desired) replace(s event.Desired) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.Epoch == d.state.Epoch && s.Revision < d.state.Revision {
		return nil
	}
	d.state = s
	if !s.Now.IsZero() {
		d.skew = time.Until(s.Now)
	}
	return d.save()
}

// step says how a change follows on what is known.
type step int

const (
	stepNext   step = iota // taken
	stepOld                // known already
	stepMissed             // a former one is missing: the whole must be asked for
)

// apply takes one change.
func (d *desired) apply(c event.Change) step {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case c.Epoch != d.state.Epoch || c.Revision > d.state.Revision+1:
		return stepMissed
	case c.Revision <= d.state.Revision:
		return stepOld
	}
	rs := slices.DeleteFunc(slices.Clone(d.state.Redirects), func(r event.Redirect) bool {
		return slices.Contains(c.Delete, r.ID) || slices.ContainsFunc(c.Put, func(p event.Redirect) bool { return p.ID == r.ID })
	})
	d.state.Redirects = append(rs, c.Put...)
	d.state.Revision = c.Revision
	return stepNext
}

// persist writes what apply changed. It is apart so that a redirect does not wait for the disk.
func (d *desired) persist() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.save()
}

// wanted is what the kernel should do now; off are the redirects that were released on this host.
func (d *desired) wanted(now time.Time) (want event.Desired, off []event.Redirect) {
	d.mu.Lock()
	defer d.mu.Unlock()
	want = d.state
	want.Redirects = nil
	for _, r := range d.state.Redirects {
		switch {
		case d.released.covers(r):
			off = append(off, r)
		case r.ExpiresAt.After(now):
			want.Redirects = append(want.Redirects, r)
		}
	}
	return want, off
}

// isReleased reports whether a redirect was released on this host.
func (d *desired) isReleased(r event.Redirect) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.released.covers(r)
}

// release notes that all that is wanted now is released.
func (d *desired) release(now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.released = released{At: now.Add(d.skew)}
	for _, r := range d.state.Redirects {
		d.released.IDs = append(d.released.IDs, r.ID)
	}
	return writeJSON(filepath.Join(d.dir, releasedFile), d.released, true)
}

func (d *desired) save() error {
	return writeJSON(filepath.Join(d.dir, desiredFile), d.state, false)
}

var errDamaged = errors.New("damaged state")

func readJSON(path string, into any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%w: %s: %w", errDamaged, path, err)
	}
	return nil
}

// writeJSON replaces a file in one step, so that no crash leaves half of it; durable, not even a power loss.
func writeJSON(path string, v any, durable bool) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write state %s: %w", path, err)
	}
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	_, err = f.Write(b)
	if err == nil && durable {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}
