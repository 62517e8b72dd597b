package front

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
)

// Judge decides on guesses at a service.
type Judge interface {
	// Accepts decides on a guess; of a password that is not known it is what tells it from others.
	Accepts(k event.PotKey, account, password string) (bool, error)
	// Guest returns the account that was accepted, and the pot that has it; each is empty where there is none.
	Guest(k event.PotKey) (account, pot string)
	// Entered is told which pot has the account.
	Entered(k event.PotKey, pot string) error
	// Challenge is an attacker's: n bytes from '!' to '~', always the same.
	Challenge(k event.PotKey, n int) []byte
	// Salt is of an account of a host: n bytes, the same for every attacker.
	Salt(host, account string, n int) []byte
}

// Certificates are those of hosts.
type Certificates interface {
	// Of returns the certificate that an attacker's pot is known by.
	Of(k event.PotKey) (tls.Certificate, error)
}

// Guard is what the fronts have in common that read along with a service's protocol and decide on logins.
type Guard struct {
	Reach  Reach
	Policy Judge
	Hash   func(password string) (string, error) // of passwords that are not kept
	// Admit gives a pot's machine an account with a password.
	Admit        func(stay Stay, account, password string) error
	Certificates Certificates
	Idle         time.Duration // silence that ends a connection; relay.DefaultIdle where 0
	Log          *slog.Logger
}

// Logger is Log, or one that discards.
func (g Guard) Logger() *slog.Logger {
	if g.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return g.Log
}

// Relay passes on what an attacker and its pot's server say, as pass makes it of that, and returns why it ended.
func (g Guard) Relay(ctx context.Context, v *Visit, attacker, pot net.Conn, pass func(relay.Direction, []byte) []byte) string {
	return relay.Run(ctx, relay.Options{Attacker: attacker, Pot: pot, Idle: g.Idle, Pass: v.together(pass)}).Reason
}

// Guess is evidence of a guess; nil where it can't be noted.
func (g Guard) Guess(ctx context.Context, v *Visit, method, account, password string) *event.Login {
	login, err := Login(v, method, account, password, g.Hash)
	if err != nil {
		g.Logger().ErrorContext(ctx, "a guess is not noted", "session", v.Session, "error", err)
		return nil
	}
	return login
}

// Opens reports whether the pot's server is asked about a guess as it is. Once the attacker got in, all decisions are that server's: the
// attacker may have changed the password. Before, an account that may get in does where its guess is accepted and admit has seen to it
// that the server agrees.
func (g Guard) Opens(ctx context.Context, v *Visit, stay Stay, account, password string, may bool, admit func() error) bool {
	k, pot := v.Lease.PotKey(), stay.Pot().ID
	if guest, has := g.Policy.Guest(k); guest != "" && has == pot {
		return true
	}
	if !may {
		return false
	}
	ok, err := g.Policy.Accepts(k, account, password)
	if err == nil && ok {
		if err = admit(); err == nil {
			err = g.Policy.Entered(k, pot)
		}
	}
	return g.agreed(ctx, v, ok, err)
}

// Accepts decides on a guess at accounts of the pot's server.
func (g Guard) Accepts(ctx context.Context, v *Visit, stay Stay, accounts *Accounts, in PotAccounts, account, guess string) bool {
	ok, err := accounts.accepts(g.Policy, in, v.Lease.PotKey(), stay.Pot().ID, account, guess)
	return g.agreed(ctx, v, ok, err)
}

// agreed reports whether somebody is let in who was accepted.
func (g Guard) agreed(ctx context.Context, v *Visit, ok bool, err error) bool {
	if err != nil {
		g.Logger().ErrorContext(ctx, "attacker is not let in", "session", v.Session, "error", err)
	}
	return ok && err == nil
}
