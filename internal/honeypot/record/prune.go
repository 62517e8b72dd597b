package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// finished counts a recording; full says that the store is larger than it may be.
func (v *Vault) finished(size int64, truncated, failed bool) (full bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if truncated {
		v.counts.Truncated++
	}
	if failed {
		v.counts.Failed++
		return false
	}
	v.counts.Recordings++
	v.counts.Bytes += uint64(size)
	v.total += size
	return v.o.MaxTotal > 0 && v.total > v.o.MaxTotal
}

// grew counts a file that came with a session; full says that the store is larger than it may be.
func (v *Vault) grew(size int64) (full bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.counts.Files++
	v.total += size
	return v.o.MaxTotal > 0 && v.total > v.o.MaxTotal
}

type stored struct {
	path string
	size int64
	at   time.Time
}

// prune removes the oldest recordings, where the store is larger than it may be, until it is a tenth
// below its bound.
func (v *Vault) prune() error {
	if v.o.MaxTotal <= 0 {
		return nil
	}
	v.pruning.Lock()
	defer v.pruning.Unlock()
	all, total, err := v.stored()
	if err != nil {
		return fmt.Errorf("list recordings: %w", err)
	}
	removed := uint64(0)
	if total > v.o.MaxTotal {
		slices.SortFunc(all, func(a, b stored) int { return a.at.Compare(b.at) })
		for _, s := range all {
			if total <= v.o.MaxTotal-v.o.MaxTotal/10 {
				break
			}
			if err := os.Remove(s.path); err != nil {
				return fmt.Errorf("remove an old recording: %w", err)
			}
			total -= s.size
			removed++
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.total = total
	v.counts.Removed += removed
	return nil
}

func (v *Vault) stored() (all []stored, total int64, err error) {
	err = filepath.WalkDir(v.store, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", path, err)
		}
		all = append(all, stored{path: path, size: info.Size(), at: info.ModTime()})
		total += info.Size()
		return nil
	})
	return all, total, err //nolint:wrapcheck // the caller says what was done
}
