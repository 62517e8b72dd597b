package postgres

import (
	"crypto/md5" //nolint:gosec // the protocol's own
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/credential"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
)

const saltOfMD5 = 4

// login is how far a client is with letting itself be let in.
type login struct {
	account string
	left    bool   // to the pot's server alone
	wants   uint32 // what the server asked for last

	salt      []byte // of MD5: the server's, and the one that the client got
	ours      []byte
	first     clientFirst // of SCRAM: the client's side
	answered  serverFirst
	signature string
	pot       toPot // and the pot's

	guess *event.Login
	opens bool
}

// said takes a message of the server while a client logs in, and returns what the client gets.
func (c *conversation) said(kind byte, body, whole []byte) []byte {
	switch {
	case kind == 'E':
		c.judged(false)
		c.stage = passing
		return whole
	case kind != 'R' || len(body) < 4:
		return whole
	}
	code, more := binary.BigEndian.Uint32(body), body[4:]
	if code == authOK {
		c.judged(true)
		return whole
	}
	if c.login.left {
		return whole
	}
	l := &c.login
	l.wants = code
	switch code {
	case authClear, authSASL:
		defer c.turn()
		return append([]byte(nil), whole...)
	case authMD5:
		l.salt, l.ours = append([]byte(nil), more...), c.h.Policy.Challenge(c.v.Lease.PotKey(), saltOfMD5)
		defer c.turn()
		return asks(authMD5, l.ours)
	case authSASLGoes:
		own, ok := l.pot.reads(more)
		if !ok {
			c.stage = passing
			return whole
		}
		l.answered = serverFirst{nonce: l.first.nonce + own, rounds: l.pot.server.rounds, salt: c.h.Policy.Salt(c.v.Lease.Host, l.account, saltSize)}
		defer c.turn()
		return asks(authSASLGoes, []byte(l.answered.text()))
	case authSASLFinal:
		return asks(authSASLFinal, []byte(l.signature))
	}
	c.stage = passing // a method that is not spoken here
	return whole
}

// judged notes what the server thinks of a login.
func (c *conversation) judged(ok bool) {
	l := &c.login
	if !ok && l.opens {
		c.h.accounts.Leave(c.v.Lease.PotKey(), c.stay.Pot().ID)
	}
	if l.guess != nil {
		l.guess.Success = ok
		c.v.Rec.Note(event.Evidence{Kind: event.EvidenceLogin, Login: l.guess})
		l.guess = nil
	}
	c.stage = asking
}

// answer takes what a client answers, and returns what the server gets.
func (c *conversation) answer(body []byte) []byte {
	switch c.login.wants {
	case authClear:
		password := string(text(body))
		c.decide("password", password, "")
		return c.judgedBy(answers(append([]byte(c.password(password)), 0)))
	case authMD5:
		response := string(text(body))
		c.decide("md5", c.known(func(password string) bool { return response == md5Of(password, c.login.account, c.login.ours) }),
			fmt.Sprintf("$postgres$%s*%s*%s", c.login.account, hex.EncodeToString(c.login.ours), strings.TrimPrefix(response, "md5")))
		return c.judgedBy(answers(append([]byte(md5Of(c.password(response), c.login.account, c.login.salt)), 0)))
	case authSASL:
		return c.beginSCRAM(body)
	default:
		return c.endSCRAM(body)
	}
}

// judgedBy has the server judge what it gets.
func (c *conversation) judgedBy(p []byte) []byte {
	c.stage = judging
	return p
}

// md5Of is the answer to a salt (PostgreSQL's documentation, "Start-up").
func md5Of(password, account string, salt []byte) string {
	inner := md5.Sum([]byte(password + account))                            //nolint:gosec // the protocol's own
	outer := md5.Sum(append([]byte(hex.EncodeToString(inner[:])), salt...)) //nolint:gosec // the protocol's own
	return "md5" + hex.EncodeToString(outer[:])
}

// password is what the server gets where a client said something: the pot's own, or one that is certainly wrong.
func (c *conversation) password(said string) string {
	switch {
	case c.login.opens:
		return c.own
	case said == "":
		return ""
	}
	return wrong()
}

// known looks for the password of which a response was made among those that are guessed often.
func (c *conversation) known(is func(password string) bool) string {
	for _, password := range credential.Common(c.login.account) {
		if is(password) {
			return password
		}
	}
	return ""
}

// beginSCRAM takes a client's first message.
func (c *conversation) beginSCRAM(body []byte) []byte {
	method, first, ok := readBegins(body)
	if ok && strings.HasPrefix(method, scramMethod) {
		c.login.first, ok = readClientFirst(first)
	}
	if !ok {
		c.stage = passing
		return nil
	}
	c.stage = waiting
	return begins(scramMethod, c.login.pot.first())
}

// endSCRAM takes a client's last message.
func (c *conversation) endSCRAM(body []byte) []byte {
	l := &c.login
	without, proof, ok := readClientFinal(body)
	if !ok {
		c.stage = passing
		return nil
	}
	said := message(l.first.bare, l.answered.text(), without)
	password, keys := c.h.lists.find(c.v.Lease.PotKey(), l.account, l.answered, func(k scramKeys) bool { return k.proves(said, proof) })
	if password != "" {
		l.signature = keys.signature(said)
	}
	c.decide(scramMethod, password, "$scram-sha-256$"+string(said)+",p="+base64.StdEncoding.EncodeToString(proof))
	own := c.own
	if !l.opens {
		own = wrong()
	}
	return c.judgedBy(answers(l.pot.last(own)))
}

// decide decides on a guess, of which the password is known or only what was made of it.
func (c *conversation) decide(method, password, response string) {
	l := &c.login
	said := password
	if said == "" {
		said = response
	}
	guess := c.h.Guess(c.ctx, c.v, method, l.account, said)
	if guess != nil && guess.Hash == "" && response != "" {
		guess.Password, guess.Response = front.Clip(password, maxPassword), front.Clip(response, maxResponse)
	}
	l.guess = guess
	if method == scramMethod && password == "" || said == "" {
		return // nobody could be told that its password is right
	}
	admin := &administrator{c: c}
	l.opens = c.h.Accepts(c.ctx, c.v, c.stay, &c.h.accounts, admin, l.account, said)
	if !l.opens || !admin.made {
		return
	}
	if err := c.anew(); err != nil {
		c.h.Logger().ErrorContext(c.ctx, "attacker is not let in", "session", c.v.Session, "error", err)
		l.opens = false
	}
}

const (
	maxPassword = 1 << 10
	maxResponse = 2 << 10
)
