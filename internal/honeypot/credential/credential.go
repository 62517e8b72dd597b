// Package credential decides which guesses let an attacker in.
//
// The first k distinct guesses of an attacker are refused, k random for each attacker; the next distinct
// one is accepted. From then on that pair of account and password works for that attacker, and nothing
// else does. A guess that repeats a refused one counts nothing and is never accepted, so that a client
// with a stale password never gets in. What was decided survives a restart.
//
// Each service of an attacker's counts for itself; a pair that was accepted at one of them opens the others too.
package credential

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// DefaultLeast and DefaultMost bound how many distinct guesses are refused.
const (
	DefaultLeast = 2
	DefaultMost  = 6
)

const (
	defaultMaxAttackers = 100_000
	maxPassword         = 1024 // bytes; OpenSSH takes no longer one
)

// validAccount is what an account may be called that a pot can have.
func validAccount() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`) }

// Guest is who an attacker got in as.
type Guest struct {
	Account string `json:"account"`
	Hash    string `json:"hash"` // of the password, as in /etc/shadow
}

// Options configure a policy.
type Options struct {
	Dir          string // of the node's state
	Least, Most  int    // distinct guesses that are refused, both ends included; the defaults where Most is 0
	MaxAttackers int    // that are remembered; 100,000 where 0
	// Hash makes what /etc/shadow holds of a password.
	Hash func(password string) (string, error)
	Log  *slog.Logger
}

// Policy decides on guesses. Its methods may be called concurrently.
type Policy struct {
	o       Options
	log     *slog.Logger
	valid   *regexp.Regexp
	secret  []byte
	journal *journal

	mu     sync.Mutex
	states map[door]*state
}

// door is where an attacker guesses.
type door struct {
	event.PotKey

	service event.Service
}

func doorOf(k event.PotKey, s event.Service) door {
	if s == event.SSH {
		s = ""
	}
	return door{k, s}
}

// state is what is remembered of one attacker.
type state struct {
	Key     event.PotKey  `json:"key"`
	Service event.Service `json:"service,omitempty"` // SSH where empty
	Refuse  int           `json:"refuse"`            // distinct guesses to refuse
	Refused []string      `json:"refused,omitempty"` // their hashes
	Pair    string        `json:"pair,omitempty"`    // hash of what was accepted
	Guest   *Guest        `json:"guest,omitempty"`
	Pot     string        `json:"pot,omitempty"` // container that has the guest's account
	At      time.Time     `json:"at"`
	Gone    bool          `json:"gone,omitempty"` // in the journal: forget the attacker
}

// Open opens the policy with what an earlier process decided.
func Open(o Options) (*Policy, error) {
	if o.Most == 0 {
		o.Least, o.Most = DefaultLeast, DefaultMost
	}
	if o.MaxAttackers == 0 {
		o.MaxAttackers = defaultMaxAttackers
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Least < 0 || o.Least > o.Most {
		return nil, fmt.Errorf("guesses to refuse: %d to %d is no range", o.Least, o.Most)
	}
	secret, err := secretIn(filepath.Join(o.Dir, "credentials.key"))
	if err != nil {
		return nil, err
	}
	p := &Policy{o: o, log: o.Log, valid: validAccount(), secret: secret, states: make(map[door]*state)}
	p.journal, err = openJournal(filepath.Join(o.Dir, "credentials.jsonl"), p.replay, o.Log)
	if err != nil {
		return nil, err
	}
	if err := p.compact(); err != nil {
		return nil, errors.Join(err, p.journal.close())
	}
	return p, nil
}

// Close closes the journal.
func (p *Policy) Close() error { return p.journal.close() }

func (p *Policy) replay(s state) {
	if s.Gone {
		p.forget(s.Key)
		return
	}
	p.states[door{s.Key, s.Service}] = &s
}

func (p *Policy) forget(k event.PotKey) (known bool) {
	for _, s := range event.Services() {
		if d := doorOf(k, s); p.states[d] != nil {
			delete(p.states, d)
			known = true
		}
	}
	return known
}

func (p *Policy) compact() error {
	all := make([]state, 0, len(p.states))
	for _, s := range p.states {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b state) int { return a.At.Compare(b.At) })
	return p.journal.rewrite(all)
}

// Try decides on a guess. Where it is accepted, the guest is returned, and is kept durably.
func (p *Policy) Try(k event.PotKey, service event.Service, account, password string) (Guest, bool, error) {
	if password == "" {
		return Guest{}, false, nil // no server accepts one, so it is no guess
	}
	pair := p.hash(k, account, password)
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stateOf(doorOf(k, service))
	switch {
	case s.Pair != "":
		if s.Pair != pair {
			return Guest{}, false, nil
		}
		return *s.Guest, true, nil
	case slices.Contains(s.Refused, pair):
		return Guest{}, false, nil
	case p.opensElsewhere(k, pair): // it is accepted here as well
	case len(s.Refused) < s.Refuse || !p.valid.MatchString(account) || len(password) > maxPassword:
		if len(s.Refused) <= p.o.Most {
			s.Refused = append(s.Refused, pair)
		}
		return Guest{}, false, p.journal.write(*s, false)
	}
	hash, err := p.o.Hash(password)
	if err != nil {
		return Guest{}, false, fmt.Errorf("accept a guess: %w", err)
	}
	accepted := *s
	accepted.Pair, accepted.Guest, accepted.Refused = pair, &Guest{Account: account, Hash: hash}, nil
	if err := p.journal.write(accepted, true); err != nil {
		return Guest{}, false, err
	}
	*s = accepted
	return *s.Guest, true, nil
}

// opensElsewhere reports whether a pair was accepted at any of an attacker's services.
func (p *Policy) opensElsewhere(k event.PotKey, pair string) bool {
	for _, service := range event.Services() {
		if s := p.states[doorOf(k, service)]; s != nil && s.Pair == pair {
			return true
		}
	}
	return false
}

// challenge is n bytes from '!' to '~' that are an attacker's, at a service: always the same.
func (p *Policy) challenge(k event.PotKey, service event.Service, n int) []byte {
	var out []byte
	for i := 0; len(out) < n; i++ {
		m := hmac.New(sha256.New, p.secret)
		_, _ = fmt.Fprintf(m, "challenge %d %s %s %s", i, service, k.Attacker, k.Host)
		for _, b := range m.Sum(nil) {
			const first, kinds = '!', '~' - '!' + 1
			if b < 256/kinds*kinds { // each as likely as any other
				out = append(out, first+b%kinds)
			}
		}
	}
	return out[:n]
}

// salt is n bytes, at most 32, that are an account's of a host's service.
func (p *Policy) salt(service event.Service, host, account string, n int) []byte {
	m := hmac.New(sha256.New, p.secret)
	_, _ = fmt.Fprintf(m, "salt %s %d:%s %s", service, len(host), host, account)
	return m.Sum(nil)[:n]
}

// hash hides what was guessed, and differs from attacker to attacker.
func (p *Policy) hash(k event.PotKey, account, password string) string {
	m := hmac.New(sha256.New, p.secret)
	for _, part := range []string{k.Attacker.String(), k.Host, account, password} {
		_, _ = fmt.Fprintf(m, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(m.Sum(nil)[:16])
}

func (p *Policy) stateOf(d door) *state {
	s := p.states[d]
	if s != nil {
		return s
	}
	if len(p.states) >= p.o.MaxAttackers {
		p.dropOldest()
	}
	s = &state{Key: d.PotKey, Service: d.service, Refuse: p.o.Least + random(p.o.Most-p.o.Least+1), At: time.Now()}
	p.states[d] = s
	return s
}

// dropOldest forgets one who has not got in yet, else anyone: the oldest of some.
func (p *Policy) dropOldest() {
	const look = 64
	var oldest *state
	seen := 0
	for _, s := range p.states {
		if oldest == nil || (s.Pair == "") != (oldest.Pair == "") && s.Pair == "" ||
			(s.Pair == "") == (oldest.Pair == "") && s.At.Before(oldest.At) {
			oldest = s
		}
		if seen++; seen >= look {
			break
		}
	}
	delete(p.states, door{oldest.Key, oldest.Service})
}

func random(n int) int {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		return 0 // crypto/rand never fails
	}
	return int(i.Int64())
}

// guest returns who an attacker got in as at a service, and which container has that account.
func (p *Policy) guest(k event.PotKey, service event.Service) (account, pot string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.states[doorOf(k, service)]
	if s == nil || s.Guest == nil {
		return "", ""
	}
	return s.Guest.Account, s.Pot
}

// entered notes which container has it.
func (p *Policy) entered(k event.PotKey, service event.Service, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.states[doorOf(k, service)]
	if s == nil || s.Pot == id {
		return nil
	}
	s.Pot = id
	return p.journal.write(*s, false)
}

// Forget forgets an attacker, whose pot is gone.
func (p *Policy) Forget(k event.PotKey) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.forget(k) {
		return nil
	}
	return p.journal.write(state{Key: k, Gone: true, At: time.Now()}, false)
}
