package front

import "github.com/kokkuri/kokkuri/internal/event"

// PotAccounts are the accounts of a pot's server.
type PotAccounts interface {
	// Admit sees to it that an account exists and has the pot's own password.
	Admit(account string) error
	// Refuses reports whether the server does not let an account in by the pot's own password.
	Refuses(account string) bool
}

// Accounts are what a database's front remembers of the accounts that attackers got in as: such an account has the pot's own password,
// until whoever is in gives it another. Then the pot's server decides by itself.
type Accounts struct{ left Pots[bool] }

// Left reports whether the pot's server decides by itself who gets in.
func (a *Accounts) Left(k event.PotKey, pot string) bool { return a.left.Get(k, pot) }

// Leave has it decide from the next login on: it refused an account that was accepted.
func (a *Accounts) Leave(k event.PotKey, pot string) { a.left.Put(k, pot, true) }

// accepts decides on a guess, and sees to it that the pot's server lets its account in by the pot's own password.
func (a *Accounts) accepts(j Judge, in PotAccounts, k event.PotKey, pot, name, guess string) (bool, error) {
	guest, has := j.Guest(k)
	ok, err := j.Accepts(k, name, guess)
	if err != nil {
		return false, err
	}
	switch {
	case ok && has != pot:
		if err := in.Admit(name); err != nil {
			return false, err
		}
		if err := j.Entered(k, pot); err != nil {
			return false, err
		}
	case !ok && guest != "" && has == pot && in.Refuses(guest): // the attacker may have given it a password
		a.Leave(k, pot)
	}
	return ok, nil
}
