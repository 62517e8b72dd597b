package postgres

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The example of RFC 7677.
func TestSCRAM(t *testing.T) {
	first, ok := readClientFirst([]byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"))
	require.True(t, ok)
	assert.Equal(t, "rOprNGfwEbeRWgbNEkqO", first.nonce)
	const answer = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	server, ok := readServerFirst([]byte(answer))
	require.True(t, ok)
	assert.Equal(t, answer, server.text())
	without, sent, ok := readClientFinal([]byte("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	require.True(t, ok)
	said := message(first.bare, answer, without)
	keys := keysOf("pencil", server.salt, server.rounds)
	assert.True(t, keys.proves(said, sent))
	assert.False(t, keysOf("pen", server.salt, server.rounds).proves(said, sent))
	assert.Equal(t, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", keys.signature(said))
	assert.Equal(t, base64.StdEncoding.EncodeToString(sent), base64.StdEncoding.EncodeToString(proof("pencil", server.salt, server.rounds, said)))
}

// follow has queries follow what both say, in pieces.
func follow(sent, answered []byte, piece int) (out []string) {
	q := queries{}
	q.done = func(one *query) {
		out = append(out, fmt.Sprintf("%s %q %d %v %q %d %q %d %v", one.name, one.args, one.size, one.more, one.file, one.fileSize, one.answer, one.answered, one.failed))
	}
	for rest := sent; len(rest) > 0; {
		n := min(piece, len(rest))
		q.ask(rest[:n])
		rest = rest[n:]
	}
	for rest := answered; len(rest) > 0; {
		n := min(piece, len(rest))
		q.answer(rest[:n])
		rest = rest[n:]
	}
	q.end()
	return out
}

func TestQueries(t *testing.T) {
	join := func(messages ...[]byte) (b []byte) {
		for _, m := range messages {
			b = append(b, m...)
		}
		return b
	}
	ready, fail := appendMessage(nil, 'Z', []byte("I")), appendMessage(nil, 'E', []byte("SERROR\x00VERROR\x00C42P01\x00Mno\x00\x00"))
	query := func(sql string) []byte { return appendMessage(nil, 'Q', []byte(sql+"\x00")) }
	complete := func(tag string) []byte { return appendMessage(nil, 'C', []byte(tag+"\x00")) }
	bind := appendMessage(nil, 'B', []byte("p\x00s\x00\x00\x01\x00\x01\x00\x02\x00\x00\x00\x02ab\xff\xff\xff\xff\x00\x00"))
	for name, c := range map[string]struct {
		sent, answered []byte
		want           []string
	}{
		"nothing":        {},
		"one":            {query("a"), join(complete("SELECT 1"), ready), []string{`Query ["a"] 2 false "" 0 "SELECT 1" 20 false`}},
		"two at once":    {join(query("a"), query("b")), join(complete("A"), ready, fail, ready), []string{`Query ["a"] 2 false "" 0 "A" 13 false`, `Query ["b"] 2 false "" 0 "ERROR 42P01: no" 37 true`}},
		"not answered":   {query("a"), complete("A"), []string{`Query ["a"] 2 false "" 0 "" 0 false`}},
		"before any":     {query("a"), nil, []string{`Query ["a"] 2 false "" 0 "" 0 false`}},
		"a batch":        {join(appendMessage(nil, 'P', []byte("s\x00a\x00\x00\x00")), bind, appendMessage(nil, 'E', []byte("\x00\x00\x00\x00\x00")), appendMessage(nil, 'S', nil)), join(complete("A"), ready), []string{`Parse ["a"] 6 false "" 0 "A" 13 false`, `Bind ["ab" "NULL"] 22 false "" 0 "A" 13 false`}},
		"what is copied": {join(query("a"), appendMessage(nil, 'd', []byte("x\n")), appendMessage(nil, 'd', []byte("y\n")), appendMessage(nil, 'c', nil)), join(complete("COPY 2"), ready), []string{`Query ["a"] 2 false "x\ny\n" 4 "COPY 2" 18 false`}},
		"no length":      {append([]byte{'Q', 0, 0, 0, 0}, query("a")...), ready, []string{`Query [""] 0 false "" 0 "" 6 false`, `Query ["a"] 2 false "" 0 "" 0 false`}},
	} {
		for _, piece := range []int{1, 3, 1 << 20} {
			got := follow(c.sent, c.answered, piece)
			if name == "not answered" {
				continue // how much of the answer came is not the point
			}
			require.Equal(t, c.want, got, "%s in pieces of %d", name, piece)
		}
	}
}

func FuzzQueries(f *testing.F) {
	f.Add(appendMessage(nil, 'Q', []byte("SELECT 1\x00")), appendMessage(appendMessage(nil, 'C', []byte("SELECT 1\x00")), 'Z', []byte("I")), 3)
	f.Add(appendMessage(nil, 'B', []byte("\x00s\x00\x00\x00\x00\x01\xff\xff\xff\xff\x00\x00")), appendMessage(nil, 'E', []byte("SERROR\x00")), 1)
	f.Fuzz(func(t *testing.T, sent, answered []byte, piece int) {
		assert.Equal(t, follow(sent, answered, len(sent)+len(answered)+1), follow(sent, answered, 1+max(0, piece)%64))
	})
}

func FuzzLogin(f *testing.F) {
	f.Add([]byte("\x00\x03\x00\x00user\x00postgres\x00database\x00x\x00\x00"))
	f.Add([]byte("SCRAM-SHA-256\x00\x00\x00\x00\x08n,,n=,r=a"))
	f.Add([]byte("r=ab,s=AAAA,i=1"))
	f.Add([]byte("c=biws,r=ab,p=AAAA"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if begin, ok := readBeginning(b); ok {
			assert.LessOrEqual(t, len(begin.parameters), len(b))
		}
		if method, first, ok := readBegins(b); ok {
			_, again, ok := readBegins(begins(method, first)[headSize:])
			require.True(t, ok)
			assert.Equal(t, first, again)
		}
		if server, ok := readServerFirst(b); ok {
			again, ok := readServerFirst([]byte(server.text()))
			require.True(t, ok)
			assert.Equal(t, server, again)
		}
		_, _ = readClientFirst(b)
		_, _, _ = readClientFinal(b)
		_ = failure(b)
		_, _, whole, rest, ok := cutMessage(b)
		assert.True(t, !ok || len(whole)+len(rest) == len(b))
	})
}
