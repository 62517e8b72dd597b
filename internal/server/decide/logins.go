package decide

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	// typos is how many failures a login of the same account right after them forgives.
	typos = 2
	// typoWindow is how soon that login must follow the first of them.
	typoWindow = 2 * time.Minute
)

// LoginKey names whose logins a record remembers.
type LoginKey struct {
	Host   string
	Source netip.Prefix
}

// Login is what is remembered of one source's logins to one host.
type Login struct {
	LoginKey

	TrustedAt time.Time // last success with no failure remembered before it
	FailedAt  time.Time // first failure since; zero where none is remembered
	LastAt    time.Time // last event of either kind
	// SucceededAt is the last success, whatever came before it.
	SucceededAt time.Time
	Failures    int
	Account     string // of all those failures; meaningless once Failures exceeds typos

	noted bool // it is among those that changed
}

// Logins answers whether a source is known to log in honestly. A success counts only where no
// failure came before it, since a brute force that guesses right ends in a success too; one or two
// mistyped passwords that the right one follows at once are forgiven. It is safe for concurrent use.
type Logins struct {
	mu        sync.Mutex
	succeeded map[netip.Prefix]int // records with a success, by source
	records   map[LoginKey]*list.Element
	// of *Login, least recently changed first; trusted ones apart, so that no flood of sources displaces them
	trusted, others *list.List
	changed         map[LoginKey]struct{}
	limit           int
	memory          time.Duration
	evicted         int64
}

// NewLogins remembers up to limit trusted sources and as many others, each for memory after its last event.
func NewLogins(limit int, memory time.Duration) *Logins {
	return &Logins{
		succeeded: make(map[netip.Prefix]int),
		records:   make(map[LoginKey]*list.Element),
		trusted:   list.New(),
		others:    list.New(),
		changed:   make(map[LoginKey]struct{}),
		limit:     limit,
		memory:    memory,
	}
}

// Load puts back a record that was saved; records come oldest first.
func (l *Logins) Load(r Login) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.records[r.LoginKey]; ok {
		l.remove(e)
	}
	l.put(&r)
}

// put enters a record as the one that changed last.
func (l *Logins) put(r *Login) {
	l.records[r.LoginKey] = l.list(r).PushBack(r)
	if !r.SucceededAt.IsZero() {
		l.succeeded[r.Source]++
	}
}

// remove takes a record out of its list.
func (l *Logins) remove(e *list.Element) *Login {
	r := e.Value.(*Login) //nolint:forcetypeassert // the lists have nothing else
	l.list(r).Remove(e)
	if !r.SucceededAt.IsZero() {
		if l.succeeded[r.Source]--; l.succeeded[r.Source] <= 0 {
			delete(l.succeeded, r.Source)
		}
	}
	return r
}

// Known reports whether a source has logged in with success on any host.
func (l *Logins) Known(source netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.succeeded[source] > 0
}

func (l *Logins) list(r *Login) *list.List {
	if r.TrustedAt.IsZero() {
		return l.others
	}
	return l.trusted
}

// Observe learns from an event of a source.
func (l *Logins) Observe(source netip.Prefix, e event.Event) {
	if e.Kind != event.AuthFailed && e.Kind != event.AuthOK || !source.IsValid() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := LoginKey{Host: e.Host, Source: source}
	if e.Kind == event.AuthFailed && l.failAgain(k, e) {
		return
	}
	r := l.take(k, e.Time)
	if e.Kind == event.AuthFailed {
		r.fail(e)
	} else {
		r.succeed(e, l.memory)
		r.SucceededAt = e.Time
	}
	if e.Time.After(r.LastAt) {
		r.LastAt = e.Time
	}
	l.forget(l.list(r), e.Time)
	l.put(r)
	l.note(r)
}

// note remembers that a record is to be saved.
func (l *Logins) note(r *Login) {
	if !r.noted { // as a rule it is: a source tries again and again
		r.noted = true
		l.changed[r.LoginKey] = struct{}{}
	}
}

// failAgain notes a failure of a source that is remembered, which is what happens most; false where there is more to do.
func (l *Logins) failAgain(k LoginKey, e event.Event) bool {
	el, ok := l.records[k]
	if !ok {
		return false
	}
	r := el.Value.(*Login) //nolint:forcetypeassert // the lists have nothing else
	if e.Time.Sub(r.LastAt) > l.memory {
		return false
	}
	r.fail(e)
	if e.Time.After(r.LastAt) {
		r.LastAt = e.Time
	}
	l.list(r).MoveToBack(el)
	l.note(r)
	return true
}

// Exempt reports whether the source logged in honestly to the host within the given time before now.
func (l *Logins) Exempt(k LoginKey, now time.Time, within time.Duration) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.records[k]
	if !ok {
		return time.Time{}, false
	}
	at := e.Value.(*Login).TrustedAt
	return at, !at.IsZero() && now.Sub(at) <= within
}

// Changed returns the records that changed since the last call; gone are those that were forgotten.
func (l *Logins) Changed() (put []Login, gone []LoginKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.changed {
		if e, ok := l.records[k]; ok {
			r := e.Value.(*Login) //nolint:forcetypeassert // the lists have nothing else
			r.noted = false
			put = append(put, *r)
		} else {
			gone = append(gone, k)
		}
	}
	clear(l.changed)
	return put, gone
}

// Evicted counts the sources that were forgotten because there were too many.
func (l *Logins) Evicted() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.evicted
}

// take returns a source's record, out of its list; a new one where none is remembered.
func (l *Logins) take(k LoginKey, now time.Time) *Login {
	e, ok := l.records[k]
	if !ok {
		return &Login{LoginKey: k}
	}
	r := l.remove(e)
	if now.Sub(r.LastAt) > l.memory {
		return &Login{LoginKey: k}
	}
	return r
}

// forget makes room in a list: it drops what is too old, and the oldest where there are too many.
func (l *Logins) forget(from *list.List, now time.Time) {
	for e := from.Front(); e != nil; e = from.Front() {
		r := e.Value.(*Login)
		old := now.Sub(r.LastAt) > l.memory
		if !old && from.Len() < l.limit {
			return
		}
		if !old {
			l.evicted++
		}
		l.remove(e)
		delete(l.records, r.LoginKey)
		l.changed[r.LoginKey] = struct{}{}
	}
}

func (r *Login) fail(e event.Event) {
	if r.FailedAt.IsZero() {
		r.FailedAt, r.Account = e.Time, e.Account
	}
	if r.Account != e.Account {
		r.Failures = typos // another account: no mistyping
	}
	r.Failures = min(r.Failures+max(e.Attempts, 1), typos+1)
}

func (r *Login) succeed(e event.Event, memory time.Duration) {
	if !r.FailedAt.IsZero() && e.Time.Sub(r.FailedAt) > memory {
		r.FailedAt, r.Failures, r.Account = time.Time{}, 0, "" // nobody knows any more
	}
	switch {
	case !r.TrustedAt.IsZero() && e.Time.Sub(r.TrustedAt) <= memory:
		r.TrustedAt = e.Time // who is known goes on being known
	case r.FailedAt.IsZero():
		r.TrustedAt = e.Time
	case r.Failures <= typos && r.Account == e.Account && e.Time.Sub(r.FailedAt) <= typoWindow:
		r.TrustedAt = e.Time
		r.FailedAt, r.Failures, r.Account = time.Time{}, 0, ""
	}
}
