package honeypot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/hostkeys"
)

const (
	keysEvery  = 10 * time.Minute
	keysRetry  = 2 * time.Second
	keysWithin = 8 * time.Second
	maxOwnKeys = 8
)

// ownKeys are hosts' own SSH host keys, of hosts whose operators give them out. They are for what stands in front of
// pots, and never get into one.
type ownKeys struct {
	dir string
	ask func(ctx context.Context, host string) (event.HostKeys, error)
	log *slog.Logger

	mu   sync.Mutex
	keys map[string][]gossh.Signer
	raw  map[string][]hostkeys.File // the same, as sshd reads them
}

func openOwnKeys(dir string, ask func(context.Context, string) (event.HostKeys, error), log *slog.Logger) (*ownKeys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep host keys: %w", err)
	}
	o := &ownKeys{dir: dir, ask: ask, log: log, keys: map[string][]gossh.Signer{}, raw: map[string][]hostkeys.File{}}
	files, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		var kept event.HostKeys
		if err == nil {
			err = json.Unmarshal(data, &kept)
		}
		signers, parseErr := parseKeys(kept.Keys)
		if err = errors.Join(err, parseErr); err != nil {
			log.Warn("host keys that were kept are damaged; they are asked for anew", "file", file, "error", err)
			_ = os.Remove(file)
			continue
		}
		host := strings.TrimSuffix(filepath.Base(file), ".json")
		o.keys[host], o.raw[host] = signers, filesOf(kept.Keys)
	}
	return o, nil
}

func parseKeys(keys []event.HostKey) ([]gossh.Signer, error) {
	if len(keys) > maxOwnKeys {
		return nil, fmt.Errorf("host keys: %d of them; at most %d", len(keys), maxOwnKeys)
	}
	out := make([]gossh.Signer, 0, len(keys))
	for _, k := range keys {
		s, err := gossh.ParsePrivateKey(k.Private)
		if err != nil {
			return nil, fmt.Errorf("host key %.10s: it can't be read", k.Type) // the cause may quote it
		}
		out = append(out, s)
	}
	return out, nil
}

func filesOf(keys []event.HostKey) []hostkeys.File {
	out := make([]hostkeys.File, 0, len(keys))
	for i, k := range keys {
		out = append(out, hostkeys.File{Name: fmt.Sprintf("ssh_host_key_%d", i), Mode: 0o600, Data: k.Private})
	}
	return out
}

func (o *ownKeys) files(host string) []hostkeys.File {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.raw[host]
}

func (o *ownKeys) signers(host string) []gossh.Signer {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.keys[host]
}

// fetch asks for a host's keys; those of one that gives none out (any more) are forgotten.
func (o *ownKeys) fetch(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, keysWithin)
	defer cancel()
	got, err := o.ask(ctx, host)
	if err != nil {
		return fmt.Errorf("host keys of %s: %w", host, err)
	}
	signers, err := parseKeys(got.Keys)
	if err != nil {
		return fmt.Errorf("host keys of %s: %w", host, err)
	}
	file := filepath.Join(o.dir, filepath.Base(host)+".json")
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(signers) == 0 {
		delete(o.keys, host)
		delete(o.raw, host)
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget host keys: %w", err)
		}
		return nil
	}
	data, err := json.Marshal(event.HostKeys{Keys: got.Keys})
	if err != nil {
		return fmt.Errorf("keep host keys: %w", err)
	}
	if err := errors.Join(os.WriteFile(file+".new", data, 0o600), os.Rename(file+".new", file)); err != nil {
		return fmt.Errorf("keep host keys: %w", err)
	}
	o.keys[host], o.raw[host] = signers, filesOf(got.Keys)
	return nil
}

// keep asks for the keys of the hosts whose attackers are held, when one comes and now and then, until ctx is done.
func (o *ownKeys) keep(ctx context.Context, come <-chan struct{}, hosts func() []string) {
	asked := map[string]time.Time{}
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-come:
		case <-next.C:
		}
		wait := keysEvery
		for _, host := range hosts() {
			if time.Since(asked[host]) < keysEvery {
				continue
			}
			if err := o.fetch(ctx, host); err != nil {
				o.log.DebugContext(ctx, "a host's keys are not known", "host", host, "error", err)
				wait = keysRetry
				continue
			}
			asked[host] = time.Now()
		}
		next.Reset(wait)
	}
}
