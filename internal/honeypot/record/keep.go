package record

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kokkuri/kokkuri/internal/event"
)

// keepSuffix is of files that are being kept; what a killed process left of them is of no use.
const keepSuffix = ".keep"

// Keep reads what a file in a pot holds into the store, as far as the bounds let. size is what the file is said to
// hold: where it holds more or less, that is not noticed until its end.
func (v *Vault) Keep(attacker event.Attacker, r io.Reader, size int64) (event.Content, error) {
	out := event.Content{Size: size}
	room := min(size, v.o.MaxFile)
	if room < size {
		out.Truncated = true
	}
	if v.reserve(attacker, max(room, charge)) != "" || !v.roomLeft() {
		out.Truncated = true
		return out, nil
	}
	refund := max(room, charge)
	defer func() {
		v.mu.Lock()
		v.used[attacker] -= refund
		v.mu.Unlock()
	}()
	f, err := os.CreateTemp(v.parts, "*"+keepSuffix)
	if err != nil {
		return out, fmt.Errorf("keep a file: %w", err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // its other name stays
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash), io.LimitReader(r, room))
	sum := hex.EncodeToString(hash.Sum(nil))
	_, had := os.Stat(v.Path(sum))
	if err == nil && had != nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return out, fmt.Errorf("keep a file: %w", err)
	}
	out.SHA256 = sum
	if n < size && !out.Truncated {
		out.Size = n // it shrank meanwhile
	}
	if had == nil {
		return out, nil // nothing new
	}
	if err := v.keep(f.Name(), sum); err != nil {
		return event.Content{Size: size, Truncated: true}, err
	}
	refund -= max(n, charge)
	if full := v.grew(n); full {
		if err := v.prune(); err != nil {
			v.log.Warn("old evidence is not removed", "error", err)
		}
	}
	return out, nil
}
