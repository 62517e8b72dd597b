// Package entry decides on the guesses of SSH's attackers, and brings who guessed right into the pot. What the attacker
// speaks with, it does not know.
package entry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/credential"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/inside"
)

// Methods of logging in that can be offered beside public keys.
const (
	Password    = "password"
	Interactive = "keyboard-interactive"
)

const (
	maxAccount = 256 // bytes of an account's name that are kept

	defaultWithin = 2 * time.Minute
	logins        = 3 // of which two may break
)

// Options say who decides, and where the pots are.
type Options struct {
	// Enter wakes, or makes, an attacker's pot.
	Enter func(context.Context, event.PotKey) (front.Stay, error)
	// Admit gives the pot the guest's account; settled, which may be nil, is called when the guest is in.
	Admit func(k event.PotKey, pot front.Stay, g credential.Guest) (settled func(), err error)
	// Full reports whether there is no pot for an attacker: then no guess of it is right, and none counts. May be nil.
	Full      func(event.PotKey) bool
	Policy    *credential.Policy
	Authority *inside.Authority
	Hash      func(password string) (string, error) // of passwords that are not kept
	Within    time.Duration                         // to get into the pot; 2 minutes where 0
	Log       *slog.Logger
}

// Entry decides. Its methods may be called concurrently.
type Entry struct{ o Options }

// New returns an entry.
func New(o Options) *Entry {
	if o.Within == 0 {
		o.Within = defaultWithin
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Entry{o: o}
}

// Guest is one who got in: a login to the pot's own server.
type Guest struct {
	Stay    front.Stay
	Pot     *inside.Client
	Account string
}

// Close ends what the guest has in the pot.
func (g *Guest) Close() {
	g.Pot.Close()
	g.Stay.Close()
}

// Guess decides on an account and a password and notes them. Who guessed wrong is no guest; who guessed right but did not
// get in is none either, and err says why.
func (e *Entry) Guess(ctx context.Context, v *front.Visit, method, account, password string) (*Guest, error) {
	login, err := front.Login(v, method, account, password, e.o.Hash)
	if err != nil {
		return nil, err
	}
	g, err := e.decide(ctx, v, account, password)
	full := errors.Is(err, front.ErrFull)
	if full { // another guess may find that there is room
		err = nil
	}
	if err != nil {
		e.o.Log.ErrorContext(ctx, "attacker is not let in", "session", v.Session, "error", err)
	}
	login.Success = g != nil
	left := event.Evidence{Kind: event.EvidenceLogin, Login: login}
	if full {
		left.Reason = front.NodeFull
	}
	v.Rec.Note(left)
	return g, err
}

// decide returns the guest of a right guess.
func (e *Entry) decide(ctx context.Context, v *front.Visit, account, password string) (*Guest, error) {
	k := v.Lease.PotKey()
	if e.o.Full != nil && e.o.Full(k) {
		return nil, front.ErrFull
	}
	guest, ok, err := e.o.Policy.Try(k, event.SSH, account, password)
	if err != nil || !ok {
		return nil, err
	}
	return e.enter(ctx, v, guest, password)
}

// Refuse notes a guess that nobody decides on.
func (e *Entry) Refuse(v *front.Visit, method, account, password string) error {
	login, err := front.Login(v, method, account, password, e.o.Hash)
	if err != nil {
		return err
	}
	v.Rec.Note(event.Evidence{Kind: event.EvidenceLogin, Login: login})
	return nil
}

// enter wakes the pot and logs in to it as the guest.
func (e *Entry) enter(ctx context.Context, v *front.Visit, g credential.Guest, password string) (*Guest, error) {
	ctx, cancel := context.WithTimeout(ctx, e.o.Within)
	defer cancel()
	k := v.Lease.PotKey()
	stay, err := e.o.Enter(ctx, k)
	if err != nil {
		return nil, fmt.Errorf("enter the pot: %w", err)
	}
	v.Pot(stay.Pot())
	settled, err := e.o.Admit(k, stay, g)
	if err != nil {
		stay.Close()
		return nil, fmt.Errorf("make the guest's account: %w", err)
	}
	pot, err := e.login(ctx, stay, g.Account, password)
	if err != nil {
		stay.Close()
		return nil, err
	}
	if settled != nil {
		settled()
	}
	return &Guest{Stay: stay, Pot: pot, Account: g.Account}, nil
}

// login logs in to the pot. Its server may begin anew just then, to read its settings or because the attacker killed it: who
// was taken once must not be refused for that.
func (e *Entry) login(ctx context.Context, stay front.Stay, account, password string) (*inside.Client, error) {
	for n := 1; ; n++ {
		conn, err := stay.Dial(ctx, event.SSH)
		if err != nil {
			return nil, err
		}
		pot, err := e.o.Authority.Login(ctx, conn, account, password)
		if err == nil || n == logins || !broken(err) || ctx.Err() != nil {
			return pot, err
		}
	}
}

// broken reports whether a connection ended before it was known who is let in.
func broken(err error) bool {
	_, failed := errors.AsType[net.Error](err)
	return failed || errors.Is(err, io.EOF)
}

// Offered notes a public key. None ever opens anything: the accounts are not the attacker's.
func Offered(v *front.Visit, account string, key ssh.PublicKey) {
	line := ssh.MarshalAuthorizedKey(key)
	v.Rec.Note(event.Evidence{Kind: event.EvidenceKey, Key: &event.Key{
		Account: front.Clip(account, maxAccount), Type: key.Type(), Fingerprint: ssh.FingerprintSHA256(key),
		MD5: ssh.FingerprintLegacyMD5(key), Key: string(line[:len(line)-1]),
	}})
}
