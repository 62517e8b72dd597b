package postgres

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// SCRAM-SHA-256 (RFC 5802, RFC 7677), both sides of it. Whoever asks for a channel to be bound is believed.

const (
	scramMethod = "SCRAM-SHA-256"
	saltSize    = 16
	mostRounds  = 100_000 // that are reckoned
)

// scramKeys are what a server keeps of a password.
type scramKeys struct{ stored, server [sha256.Size]byte }

func mac(key, text []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(text)
	return m.Sum(nil)
}

// salted is a password as both sides reckon with it.
func salted(password string, salt []byte, rounds int) []byte {
	key, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		return nil // of no length but the hash's own
	}
	return key
}

func keysOf(password string, salt []byte, rounds int) (k scramKeys) {
	s := salted(password, salt, rounds)
	k.stored = sha256.Sum256(mac(s, []byte("Client Key")))
	copy(k.server[:], mac(s, []byte("Server Key")))
	return k
}

// proves reports whether a client's proof is of the password that the keys are of.
func (k scramKeys) proves(message, proof []byte) bool {
	if len(proof) != sha256.Size {
		return false
	}
	key := make([]byte, sha256.Size)
	subtle.XORBytes(key, proof, mac(k.stored[:], message))
	return sha256.Sum256(key) == k.stored
}

// signature is how the server shows that it knows the password, too.
func (k scramKeys) signature(message []byte) string {
	return "v=" + base64.StdEncoding.EncodeToString(mac(k.server[:], message))
}

// proof is how a client shows that it knows a password.
func proof(password string, salt []byte, rounds int, message []byte) []byte {
	key := mac(salted(password, salt, rounds), []byte("Client Key"))
	stored := sha256.Sum256(key)
	out := make([]byte, sha256.Size)
	subtle.XORBytes(out, key, mac(stored[:], message))
	return out
}

// attribute returns the value of the attribute with which a part of a message begins.
func attribute(part []byte, name byte) (string, bool) {
	if len(part) < 2 || part[0] != name || part[1] != '=' {
		return "", false
	}
	return string(part[2:]), true
}

// clientFirst is what a client begins with.
type clientFirst struct {
	bare  []byte // without what it says of binding channels
	nonce string
}

func readClientFirst(b []byte) (f clientFirst, ok bool) {
	parts := bytes.SplitN(b, []byte{','}, 3) // its wish for a bound channel, and as whom it acts
	if len(parts) < 3 {
		return f, false
	}
	f.bare = append([]byte(nil), parts[2]...)
	for i, part := range bytes.Split(f.bare, []byte{','}) {
		if i == 1 {
			f.nonce, ok = attribute(part, 'r')
		}
	}
	return f, ok && f.nonce != ""
}

// serverFirst is what a server answers.
type serverFirst struct {
	nonce  string // the client's, and its own
	salt   []byte
	rounds int
}

func readServerFirst(b []byte) (f serverFirst, ok bool) {
	parts := bytes.Split(b, []byte{','})
	if len(parts) < 3 {
		return f, false
	}
	nonce, ok1 := attribute(parts[0], 'r')
	salt, ok2 := attribute(parts[1], 's')
	rounds, ok3 := attribute(parts[2], 'i')
	if !ok1 || !ok2 || !ok3 {
		return f, false
	}
	var err error
	if f.salt, err = base64.StdEncoding.DecodeString(salt); err != nil {
		return f, false
	}
	f.rounds, err = strconv.Atoi(rounds)
	f.nonce = nonce
	return f, err == nil && f.rounds > 0 && f.rounds <= mostRounds
}

func (f serverFirst) text() string {
	return fmt.Sprintf("r=%s,s=%s,i=%d", f.nonce, base64.StdEncoding.EncodeToString(f.salt), f.rounds)
}

// readClientFinal cuts a client's last message into what its proof is of, and the proof.
func readClientFinal(b []byte) (without, proof []byte, ok bool) {
	i := bytes.LastIndex(b, []byte(",p="))
	if i < 0 {
		return nil, nil, false
	}
	proof, err := base64.StdEncoding.DecodeString(string(b[i+3:]))
	return append([]byte(nil), b[:i]...), proof, err == nil
}

// message is what both sides' proofs are of.
func message(bare []byte, server string, without []byte) []byte {
	return []byte(string(bare) + "," + server + "," + string(without))
}

// toPot is the front as a client of the pot's server.
type toPot struct {
	nonce  string
	server serverFirst
	text   string // as the server said it
}

func (c *toPot) bare() string { return "n=,r=" + c.nonce }

// first begins.
func (c *toPot) first() []byte {
	c.nonce = rand.Text()
	return []byte("n,," + c.bare())
}

// reads takes the server's answer, and returns the part of its nonce that is its own.
func (c *toPot) reads(b []byte) (own string, ok bool) {
	if c.server, ok = readServerFirst(b); !ok {
		return "", false
	}
	c.text = string(b)
	return strings.CutPrefix(c.server.nonce, c.nonce)
}

// last proves a password.
func (c *toPot) last(password string) []byte {
	without := "c=biws,r=" + c.server.nonce
	p := proof(password, c.server.salt, c.server.rounds, message([]byte(c.bare()), c.text, []byte(without)))
	return []byte(without + ",p=" + base64.StdEncoding.EncodeToString(p))
}
