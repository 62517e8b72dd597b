package postgres

import (
	"fmt"
	"slices"
	"sync"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/credential"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
)

const (
	accountsEach = 4   // of an attacker, for which lists are reckoned
	maxLists     = 256 // that are kept
)

// lists are the passwords that are guessed often, as a server of SCRAM keeps them: each takes thousands of hashes, so they are
// reckoned once for an account of a host, and for few accounts of an attacker.
type lists struct {
	mu    sync.Mutex
	of    map[string]*list
	asked front.Pots[[]string]
	one   sync.Mutex // reckons at a time
}

// list is of one account.
type list struct {
	mu        sync.Mutex
	left      []string // that are not yet reckoned
	passwords []string
	keys      []scramKeys
}

// find returns the password whose keys fit, and the keys; "" where none of the list does.
func (l *lists) find(k event.PotKey, account string, server serverFirst, fits func(scramKeys) bool) (string, scramKeys) {
	one := l.get(k, account, server)
	if one == nil {
		return "", scramKeys{}
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	for i, keys := range one.keys {
		if fits(keys) {
			return one.passwords[i], keys
		}
	}
	l.one.Lock()
	defer l.one.Unlock()
	for len(one.left) > 0 {
		password := one.left[0]
		keys := keysOf(password, server.salt, server.rounds)
		one.left, one.passwords, one.keys = one.left[1:], append(one.passwords, password), append(one.keys, keys)
		if fits(keys) {
			return password, keys
		}
	}
	return "", scramKeys{}
}

// get returns the list of an account, nil where the attacker has asked for too many.
func (l *lists) get(k event.PotKey, account string, server serverFirst) *list {
	l.mu.Lock()
	defer l.mu.Unlock()
	accounts := l.asked.Get(k, "")
	if !slices.Contains(accounts, account) {
		if len(accounts) == accountsEach {
			return nil
		}
		l.asked.Put(k, "", append(slices.Clip(accounts), account))
	}
	name := fmt.Sprintf("%d %x %s", server.rounds, server.salt, account)
	if one := l.of[name]; one != nil {
		return one
	}
	if l.of == nil || len(l.of) >= maxLists {
		l.of = make(map[string]*list)
	}
	one := &list{left: credential.Common(account)}
	l.of[name] = one
	return one
}
