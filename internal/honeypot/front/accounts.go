package front

import "github.com/kokkuri/kokkuri/internal/event"

// Accounts are what a database's front remembers of the accounts that attackers got in as: such an account has the pot's own password,
// until whoever is in gives it another.
type Accounts struct{ pots Pots[account] }

type account struct {
	name    string // has the pot's own password by now
	changed bool   // and has another now: the pot's server decides by itself
}

// Judge decides on guesses at a service.
type Judge interface {
	// Accepts decides on a guess; of a password that is not known it is what tells it from others.
	Accepts(k event.PotKey, account, password string) (bool, error)
	// Settled reports whether one was accepted.
	Settled(k event.PotKey) bool
}

// PotAccounts are the accounts of a pot's server.
type PotAccounts interface {
	// Admit sees to it that an account exists and has the pot's own password.
	Admit(account string) error
	// Refuses reports whether the server does not let an account in by the pot's own password.
	Refuses(account string) bool
}

// Left reports whether the pot's server decides by itself who gets in.
func (a *Accounts) Left(k event.PotKey, pot string) bool { return a.pots.Get(k, pot).changed }

// Leave has it decide from the next login on: it refused an account that was accepted.
func (a *Accounts) Leave(k event.PotKey, pot string) {
	n := a.pots.Get(k, pot)
	n.changed = true
	a.pots.Put(k, pot, n)
}

// Accepts decides on a guess, and sees to it that the pot's server lets its account in by the pot's own password.
func (a *Accounts) Accepts(j Judge, in PotAccounts, k event.PotKey, pot, name, guess string) (bool, error) {
	settled := j.Settled(k)
	ok, err := j.Accepts(k, name, guess)
	if err != nil {
		return false, err
	}
	n := a.pots.Get(k, pot)
	switch {
	case ok && n.name != name:
		if err := in.Admit(name); err != nil {
			return false, err
		}
		n.name = name
		a.pots.Put(k, pot, n)
	case !ok && settled && n.name != "" && in.Refuses(n.name): // the attacker may have given it a password
		a.Leave(k, pot)
	}
	return ok, nil
}
