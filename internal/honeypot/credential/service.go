package credential

import "github.com/kokkuri/kokkuri/internal/event"

// Service is the policy as one of the services asks it.
type Service struct {
	policy  *Policy
	service event.Service
}

// At returns the policy of a service.
func (p *Policy) At(s event.Service) Service { return Service{p, s} }

// Accepts decides on a guess.
func (s Service) Accepts(k event.PotKey, account, password string) (bool, error) {
	_, ok, err := s.policy.Try(k, s.service, account, password)
	return ok, err
}

// Guest returns the account that was accepted, and the container that has it; each is empty where there is none.
func (s Service) Guest(k event.PotKey) (account, pot string) { return s.policy.guest(k, s.service) }

// Entered notes which container has the account.
func (s Service) Entered(k event.PotKey, pot string) error {
	return s.policy.entered(k, s.service, pot)
}

// Salt is of an account of a host: n bytes, the same for every attacker, as of a real server's account.
func (s Service) Salt(host, account string, n int) []byte {
	return s.policy.salt(s.service, host, account, n)
}

// Challenge is an attacker's: n bytes from '!' to '~', always the same.
func (s Service) Challenge(k event.PotKey, n int) []byte { return s.policy.challenge(k, s.service, n) }
