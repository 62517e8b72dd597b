package pki

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const ledgerFile = "issued.json"

// entry is one certificate that was issued.
type entry struct {
	Serial    string    `json:"serial"` // hex
	Role      Role      `json:"role"`
	Name      string    `json:"name"`
	NotAfter  time.Time `json:"not_after"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

// ledger holds the certificates that have not expired, by serial.
type ledger map[string]entry

func readLedger(path string) (ledger, error) {
	l := make(ledger)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the list of certificates: %w", err)
	}
	var entries []entry
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, fmt.Errorf("%s is damaged (restore it from your backup; without it revoked certificates would be taken again): %w", path, err)
	}
	for _, e := range entries {
		l[e.Serial] = e
	}
	return l, nil
}

// save writes the ledger without what has expired. The CA's lock must be held.
func (ca *CA) save() error {
	now := ca.now()
	entries := make([]entry, 0, len(ca.ledger))
	for serial, e := range ca.ledger {
		if now.After(e.NotAfter.Add(clockSkew)) {
			delete(ca.ledger, serial)
			continue
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return a.NotAfter.Compare(b.NotAfter) })
	data, err := json.MarshalIndent(entries, "", " ")
	if err != nil {
		return fmt.Errorf("save the list of certificates: %w", err)
	}
	return writeFile(filepath.Join(ca.dir, ledgerFile), data)
}

func (ca *CA) record(e entry) error {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.ledger[e.Serial] = e
	if err := ca.save(); err != nil {
		delete(ca.ledger, e.Serial)
		return err
	}
	return nil
}

// Revoke makes all certificates of a role and name invalid and returns how many there were. It is durable when
// it returns; the broker must then be told to end their connections.
func (ca *CA) Revoke(role Role, name string) (int, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	n := 0
	for serial, e := range ca.ledger {
		if e.Role == role && e.Name == name && e.RevokedAt.IsZero() {
			e.RevokedAt = ca.now().UTC()
			ca.ledger[serial] = e
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	if err := ca.save(); err != nil {
		return n, fmt.Errorf("revoke the certificates of %s %s: %w", role, name, err)
	}
	ca.log.Info("revoked certificates", "role", string(role), "name", name, "count", n)
	return n, nil
}

// Expiring returns the names whose newest certificate of a role ends within a time, and when it does.
func (ca *CA) Expiring(role Role, within time.Duration) map[string]time.Time {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	newest := make(map[string]time.Time)
	for _, e := range ca.ledger {
		if e.Role == role && e.RevokedAt.IsZero() && e.NotAfter.After(newest[e.Name]) {
			newest[e.Name] = e.NotAfter
		}
	}
	before := ca.now().Add(within)
	maps.DeleteFunc(newest, func(_ string, until time.Time) bool { return until.After(before) })
	return newest
}

// Revoked reports whether the certificate with this serial number (hex) was revoked.
func (ca *CA) Revoked(serial string) bool {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return !ca.ledger[serial].RevokedAt.IsZero()
}
