package web

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
)

// nobody's guess is right.
type nobody struct{ front.Judge }

// Accepts implements front.Judge.
func (nobody) Accepts(event.PotKey, string, string) (bool, error) { return false, nil }

// follow has a conversation follow what both say, in pieces, and returns what the server gets and what is noted.
func follow(sent, answered []byte, piece int) (passed []byte, ended string) {
	c := &conversation{h: New(front.Guard{Policy: nobody{}}), ctx: nil, v: &front.Visit{}}
	for rest := sent; len(rest) > 0; {
		n := min(piece, len(rest))
		c.passed = nil
		c.asked(rest[:n])
		passed = append(passed, c.passed...)
		rest = rest[n:]
	}
	for rest := answered; len(rest) > 0; {
		n := min(piece, len(rest))
		c.answered(rest[:n])
		rest = rest[n:]
	}
	var pending []string
	for _, x := range c.pending {
		pending = append(pending, fmt.Sprintf("%q %d %d %d %q", x.lines, x.size, x.bodySize, x.status, x.body))
	}
	held := len(c.in.held)
	c.end()
	return passed, fmt.Sprintf("%q %v %d", pending, c.passing, held)
}

func FuzzConversation(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 204 No\r\n\r\n"), 3)
	f.Add([]byte("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: x\r\n\r\nGET /\r\n"), []byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nendless"), 1)
	f.Add([]byte("POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\nq=a"), []byte("\x00"), 2)
	f.Add([]byte("POST / HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 90\r\n\r\n--x\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\nabc\r\n--x--\r\n"), []byte("HTTP/1.1 101 S\r\n\r\n"), 5)
	f.Fuzz(func(t *testing.T, sent, answered []byte, piece int) {
		whole, what := follow(sent, answered, len(sent)+len(answered)+1)
		parts, same := follow(sent, answered, 1+max(0, piece)%64)
		assert.Equal(t, string(whole), string(parts))
		assert.Equal(t, what, same)
	})
}

func FuzzForm(f *testing.F) {
	f.Add("log=admin&pwd=x%20y&a=b", "root", "it's & %")
	f.Fuzz(func(t *testing.T, form, account, password string) {
		_, with, ok := formOf(form)
		if !ok {
			return
		}
		g, _, ok := formOf(with(account, password))
		require.True(t, ok)
		assert.Equal(t, guess{"form", account, password}, g)
	})
}

func TestGuesses(t *testing.T) {
	for value, want := range map[string]guess{
		"Basic cm9vdDp0b29y": {"basic", "root", "toor"}, "basic  cm9vdDp0OjE=": {"basic", "root", "t:1"}, "Basic cm9vdA==": {}, "Bearer x": {}, "": {}, "Basic !": {},
	} {
		g, ok := basicOf(value)
		assert.Equal(t, want.method != "", ok, value)
		if ok {
			assert.Equal(t, want, g, value)
		}
	}
	for form, want := range map[string]guess{
		"username=a&password=b": {"form", "a", "b"}, "pma_password=b&pma_username=a": {"form", "a", "b"}, "login%5Bemail%5D=a%40b&login%5Bpass%5D=c+d": {"form", "a@b", "c d"},
		"password=b": {}, "q=user&x=pass": {}, "": {}, "user=%zz&pass=b": {},
	} {
		g, _, ok := formOf(form)
		assert.Equal(t, want.method != "", ok, form)
		if ok {
			assert.Equal(t, want, g, form)
		}
	}
}
