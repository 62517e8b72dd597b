package mysql

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/credential"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
)

// leave has the server alone decide on what a client answers.
func (c *conversation) leave(response []byte) []byte {
	c.stage = judged
	method := c.login.plugin
	if method == "" {
		method = nativePassword
	}
	c.noteGuess(method, "", response)
	return append([]byte(nil), c.fromThem[:headerSize+bodySize(c.fromThem)]...)
}

// decide decides on a client's response, and returns what the server gets in its place.
func (c *conversation) decide(response, challenge []byte) []byte {
	password := c.known(response)
	c.noteGuess(nativePassword, password, response)
	said := password
	if said == "" {
		said = hex.EncodeToString(response)
	}
	c.opens = len(response) > 0 && c.h.Accepts(c.ctx, c.v, c.stay, &c.h.accounts, c, string(c.login.account), said)
	switch {
	case c.opens:
		return native(c.own, challenge)
	case len(response) == 0:
		return nil
	}
	wrong := make([]byte, challengeSize)
	_, _ = rand.Read(wrong) // never fails
	return wrong
}

// known looks for the password of which a response was made among those that are guessed often.
func (c *conversation) known(response []byte) string {
	for _, password := range credential.Common(string(c.login.account)) {
		if bytes.Equal(response, native(password, c.challenge)) {
			return password
		}
	}
	return ""
}

// noteGuess has a guess noted with what the server thinks of it.
func (c *conversation) noteGuess(method, password string, response []byte) {
	digits := hex.EncodeToString(response)
	guess := c.h.Guess(c.ctx, c.v, method, string(c.login.account), cmp.Or(password, digits))
	if guess != nil && guess.Hash == "" && len(response) > 0 {
		guess.Password, guess.Response = event.Bytes(password), event.Bytes(digits)
		if method == nativePassword { // as John the Ripper and hashcat (mode 11200) read it
			guess.Response = event.Bytes("$mysqlna$" + hex.EncodeToString(c.challenge) + "*" + digits)
		}
	}
	c.guess = guess
}

// judge takes what the server thinks of a login.
func (c *conversation) judge() []byte {
	if c.left {
		return c.judgeAlone()
	}
	var passed []byte
	for c.stage == judged {
		p, rest, ok := cutPacket(c.fromPot)
		if !ok {
			return append(passed, c.orPass(&c.fromPot)...)
		}
		c.fromPot = rest
		switch {
		case len(p.body) > 1 && p.body[0] == isSwitch: // the account has another method, or is to look so
			_, challenge := readSwitch(p.body)
			c.server.challenge = append([]byte(nil), challenge...)
			answer := native(c.own, challenge)
			if !c.opens {
				_, _ = rand.Read(answer) // never fails
			}
			c.tell(c.pot, p.seq+1, answer)
			continue
		case len(p.body) > 0 && (p.body[0] == isOK || p.body[0] == isError):
			c.judgedAs(p.body[0] == isOK)
		default:
			c.stage = passes
		}
		c.seq++
		passed = appendPacket(passed, c.seq, p.body)
	}
	return append(passed, take(&c.fromPot)...)
}

// judgeAlone reads it where the server decides by itself: all passes as it is.
func (c *conversation) judgeAlone() []byte {
	passed := append([]byte(nil), c.fromPot...)
	for c.stage == judged {
		p, rest, ok := cutPacket(c.fromPot)
		if !ok {
			passed = passed[:len(passed)-len(c.fromPot)]
			return append(passed, c.orPass(&c.fromPot)...)
		}
		c.fromPot = append([]byte(nil), rest...)
		if len(p.body) > 0 && (p.body[0] == isOK || p.body[0] == isError) {
			c.judgedAs(p.body[0] == isOK)
		}
	}
	c.fromPot = nil
	return passed
}

func (c *conversation) judgedAs(ok bool) {
	c.stage = asks
	if ok && c.login.caps&capCompress != 0 {
		c.compress[relay.In], c.compress[relay.Out] = &compressed{to: c.asked.ask}, &compressed{to: c.asked.answer}
	}
	if !ok && c.opens {
		c.h.accounts.Leave(c.v.Lease.PotKey(), c.stay.Pot().ID)
	}
	if c.guess != nil {
		c.guess.Success = ok
		c.v.Rec.Note(event.Evidence{Kind: event.EvidenceLogin, Login: c.guess})
		c.guess = nil
	}
}
