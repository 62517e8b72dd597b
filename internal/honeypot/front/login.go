package front

import (
	"fmt"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	maxAccount  = 256  // bytes of an account's name that are kept
	maxPassword = 1024 // bytes of a password that are kept
)

// Login is evidence of a guess, with its password, or of somebody who may be honest with a salted hash of it only.
func Login(v *Visit, method, account, password string, hash func(string) (string, error)) (*event.Login, error) {
	l := &event.Login{Account: Clip(account, maxAccount), Method: method}
	if !v.Lease.Known {
		l.Password = Clip(password, maxPassword)
		return l, nil
	}
	h, err := hash(string(Clip(password, maxPassword)))
	if err != nil {
		return nil, fmt.Errorf("hash a password: %w", err)
	}
	l.Hash = h
	return l, nil
}

// Clip keeps the start of what an attacker sent.
func Clip(s string, most int) event.Bytes { return event.Bytes(s[:min(len(s), most)]) }
