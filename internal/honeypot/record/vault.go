// Package record keeps what passed through a front: recordings of sessions, the files that came with
// them, and the sessions' records until the server has them.
package record

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	defaultMaxSession  = 64 << 20
	defaultMaxAttacker = 1 << 30
	defaultMaxFile     = 64 << 20
	defaultMinFree     = 1 << 30

	// charge is what even an empty recording counts for, so that the number of files is bounded, too.
	charge = 16 << 10

	partSuffix      = ".part"
	recoveredSuffix = ".recovered"
)

// VaultOptions bound what is kept.
type VaultOptions struct {
	Dir         string               // of the node's state
	MaxSession  int64                // bytes of one recording; 64 MiB where 0
	MaxFile     int64                // bytes of one file that comes with a session; 64 MiB where 0
	MaxAttacker int64                // bytes of all recordings and files of one attacker; 1 GiB where 0
	MaxTotal    int64                // bytes of all of them, of which the oldest go first; no bound where 0
	MinFree     uint64               // bytes that stay free on the file system; 1 GiB where 0
	Noted       func(session string) // called after each piece of evidence; may be nil
	Log         *slog.Logger
}

// Vault keeps recordings: those that are being made in recordings/, the finished ones under their
// SHA-256 in evidence/. Its methods may be called concurrently.
type Vault struct {
	o     VaultOptions
	log   *slog.Logger
	parts string
	store string

	mu     sync.Mutex
	used   map[netip.Prefix]int64
	total  int64 // bytes in the store, where it is bounded
	counts VaultCounts

	pruning sync.Mutex
}

// VaultCounts are what happened to recordings since the start.
type VaultCounts struct {
	Recordings uint64 // finished
	Files      uint64 // that came with sessions
	Truncated  uint64 // that hit a bound
	Failed     uint64 // that could not be written
	Bytes      uint64 // written
	Removed    uint64 // for want of room
}

// OpenVault opens the vault in a folder, which is made where it does not exist.
func OpenVault(o VaultOptions) (*Vault, error) {
	if o.MaxSession == 0 {
		o.MaxSession = defaultMaxSession
	}
	if o.MaxAttacker == 0 {
		o.MaxAttacker = defaultMaxAttacker
	}
	if o.MaxFile == 0 {
		o.MaxFile = defaultMaxFile
	}
	if o.Noted == nil {
		o.Noted = func(string) {}
	}
	if o.MinFree == 0 {
		o.MinFree = defaultMinFree
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	v := &Vault{
		o: o, log: o.Log, used: make(map[netip.Prefix]int64),
		parts: filepath.Join(o.Dir, "recordings"), store: filepath.Join(o.Dir, "evidence"),
	}
	for _, d := range []string{v.parts, v.store} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make the folder of recordings: %w", err)
		}
	}
	data, err := os.ReadFile(v.usageFile())
	if err == nil {
		err = json.Unmarshal(data, &v.used)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		v.log.Warn("how much attackers have used is not known; counting from zero", "error", err)
		v.used = make(map[netip.Prefix]int64)
	}
	if err := v.prune(); err != nil {
		return nil, err
	}
	return v, nil
}

func (v *Vault) usageFile() string { return filepath.Join(v.o.Dir, "usage.json") }

// Save writes down how much each attacker has used.
func (v *Vault) Save() error {
	v.mu.Lock()
	data, err := json.Marshal(v.used)
	v.mu.Unlock()
	if err == nil {
		err = writeFile(v.usageFile(), data, false)
	}
	if err != nil {
		return fmt.Errorf("save what attackers have used: %w", err)
	}
	return nil
}

// Counts returns what happened so far.
func (v *Vault) Counts() VaultCounts {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.counts
}

// Path returns where a finished recording is.
func (v *Vault) Path(sha256 string) string {
	if len(sha256) != 64 || strings.Trim(sha256, "0123456789abcdef") != "" {
		return filepath.Join(v.store, "invalid")
	}
	return filepath.Join(v.store, sha256[:2], sha256)
}

// reserve lets a recording grow by n bytes, or says why it must not.
func (v *Vault) reserve(attacker event.Attacker, n int64) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.used[attacker]+n > v.o.MaxAttacker {
		return fmt.Sprintf("the attacker's evidence reached %d bytes", v.o.MaxAttacker)
	}
	v.used[attacker] += n
	return ""
}

// roomLeft reports whether the file system has room.
func (v *Vault) roomLeft() bool {
	var st unix.Statfs_t
	if err := unix.Statfs(v.parts, &st); err != nil {
		return true // the write itself will tell
	}
	return st.Bavail*uint64(st.Bsize) >= v.o.MinFree
}

// roomLeftFor looks at the file system once in a while when a file grows.
func (v *Vault) roomLeftFor(end, grows int64) bool {
	return end/checkRoom == (end+grows)/checkRoom && end > 0 || v.roomLeft()
}

// Recovered is a recording that a killed process left behind, now finished.
type Recovered struct {
	Header            recording.Header
	SHA256            string
	BytesIn, BytesOut int64
	LastAt            time.Time // of its last frame
	Complete          bool      // only the session's record was missing
	Reason            string    // why the session ended, where it is complete
}

// Recover finishes the recordings that a killed process left. Call it before the first Begin.
func (v *Vault) Recover(reason string) ([]Recovered, error) {
	entries, err := os.ReadDir(v.parts)
	if err != nil {
		return nil, fmt.Errorf("look for unfinished recordings: %w", err)
	}
	var out []Recovered
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), recoveredSuffix) || strings.HasSuffix(e.Name(), keepSuffix) { // that was itself cut off
			_ = os.Remove(filepath.Join(v.parts, e.Name()))
		}
		if !strings.HasSuffix(e.Name(), partSuffix) {
			continue
		}
		path := filepath.Join(v.parts, e.Name())
		r, err := v.recoverOne(path, reason)
		if err != nil {
			v.log.Warn("unfinished recording cannot be read; it is put aside", "file", path, "error", err)
			if err := os.Rename(path, path+".broken"); err != nil {
				return out, fmt.Errorf("put %s aside: %w", path, err)
			}
			continue
		}
		out = append(out, r)
	}
	return out, nil
}

// recoverOne copies what is valid of a recording, with the files that came and an end, into the store.
func (v *Vault) recoverOne(path, reason string) (Recovered, error) {
	in, err := os.Open(path)
	if err != nil {
		return Recovered{}, fmt.Errorf("open it: %w", err)
	}
	defer in.Close() //nolint:errcheck // read-only
	hash := sha256.New()
	rd, err := recording.NewReader(bufio.NewReaderSize(io.TeeReader(in, hash), 64<<10))
	if err != nil {
		return Recovered{}, err
	}
	out := Recovered{Header: rd.Header(), LastAt: rd.Header().StartedAt}
	w, err := v.create(rd.Header(), recoveredSuffix)
	if err != nil {
		return Recovered{}, err
	}
	notes, last, err := v.copyFrames(w, rd, &out)
	if errors.Is(err, io.EOF) {
		w.discard()
		return v.adopt(path, out, hex.EncodeToString(hash.Sum(nil)))
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		v.log.Warn("unfinished recording is damaged; its start is kept", "file", path, "error", err)
	}
	session := out.Header.Session
	for _, e := range append(v.recoverFiles(session),
		event.Evidence{Kind: event.EvidenceTruncated, Reason: reason},
		event.Evidence{Kind: event.EvidenceClosed, Reason: reason}) {
		notes++
		e.Session, e.Number, e.At = session, notes, out.LastAt
		if payload, err := json.Marshal(e); err == nil {
			w.frame(recording.Frame{Kind: recording.Note, Channel: e.Channel, Offset: last, Payload: payload})
		}
	}
	w.frame(recording.Frame{Kind: recording.Truncated, Offset: last, Payload: []byte(reason)})
	if out.SHA256, err = w.finish(reason, last); err != nil {
		return Recovered{}, err
	}
	v.mu.Lock()
	v.used[rd.Header().Attacker] += max(w.size, charge)
	v.mu.Unlock()
	out.Reason = reason
	w.discard()
	v.forgetFiles(session)
	if err := os.Remove(path); err != nil {
		return Recovered{}, fmt.Errorf("remove what was recovered: %w", err)
	}
	return out, nil
}

// copyFrames copies frames up to the end, io.EOF, or to where the recording was cut off or is damaged.
func (v *Vault) copyFrames(w *file, rd *recording.Reader, out *Recovered) (notes int, last time.Duration, err error) {
	for {
		f, err := rd.Next()
		if err != nil {
			return notes, last, err
		}
		last = f.Offset
		out.LastAt = out.Header.StartedAt.Add(last)
		switch f.Kind {
		case recording.In:
			out.BytesIn += int64(len(f.Payload))
		case recording.Out, recording.Err:
			out.BytesOut += int64(len(f.Payload))
		case recording.Note:
			notes++
		case recording.End:
			out.Reason = string(f.Payload)
			continue // to see that nothing follows
		case recording.Truncated:
		}
		w.frame(f)
	}
}

// adopt takes a recording that was finished into the store.
func (v *Vault) adopt(path string, r Recovered, sum string) (Recovered, error) {
	r.SHA256, r.Complete = sum, true
	if err := v.keep(path, sum); err != nil {
		return Recovered{}, err
	}
	if err := os.Remove(path); err != nil {
		return Recovered{}, fmt.Errorf("take it over: %w", err)
	}
	v.forgetFiles(r.Header.Session)
	return r, nil
}
