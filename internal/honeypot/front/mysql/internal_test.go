package mysql

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// read has statements follow what both say, in pieces.
func read(sent, answered []byte, piece int) (out []string) {
	s := statements{done: func(s *statement) {
		out = append(out, fmt.Sprintf("%s %q %d %q %d", s.name, s.text, s.size, s.file, s.fileSize))
	}}
	for len(sent) > 0 {
		n := min(piece, len(sent))
		s.ask(sent[:n])
		sent = sent[n:]
		m := min(piece, len(answered))
		s.answer(answered[:m])
		answered = answered[m:]
	}
	s.end()
	return out
}

func TestStatements(t *testing.T) {
	packets := func(seqs ...byte) (b []byte) {
		for i, seq := range seqs {
			b = appendPacket(b, seq, []byte{3, 'a' + byte(i)})
		}
		return b
	}
	large := appendPacket(nil, 0, append([]byte{3}, make([]byte, largest-1)...))
	for name, c := range map[string]struct {
		sent []byte
		want []string
	}{
		"nothing":                         {},
		"one after another":               {packets(0, 0), []string{`COM_QUERY "a" 1 "" 0`, `COM_QUERY "b" 1 "" 0`}},
		"a file":                          {append(packets(0, 2, 3), appendPacket(packets()[:0], 4, nil)...), []string{`COM_QUERY "a" 1 "\x03b\x03c" 4`}},
		"a command after what is no file": {packets(0, 7, 0), []string{`COM_QUERY "a" 1 "\x03b" 2`, `COM_QUERY "c" 1 "" 0`}},
		"no command at all":               {packets(1, 2), nil},
		"an empty one":                    {appendPacket(nil, 0, nil), nil},
		"a command of no name":            {appendPacket(nil, 0, []byte{200}), []string{`COM_200 "" 0 "" 0`}},
		"a large one":                     {append(append([]byte(nil), large...), packets(1, 0)...), []string{fmt.Sprintf(`COM_QUERY %q %d "" 0`, make([]byte, keptStatement), largest-1+2), `COM_QUERY "b" 1 "" 0`}},
	} {
		for _, piece := range []int{1, 3, 1 << 25} {
			if piece < 100 && len(c.sent) > 1<<20 {
				piece = 4096
			}
			require.Equal(t, c.want, read(c.sent, nil, piece), "%s in pieces of %d", name, piece)
		}
	}
}

func FuzzStatements(f *testing.F) {
	f.Add(appendPacket(appendPacket(nil, 0, []byte("\x03SELECT 1")), 2, []byte("file")), appendPacket(nil, 1, []byte{0}), 3)
	f.Fuzz(func(t *testing.T, sent, answered []byte, piece int) {
		assert.Equal(t, read(sent, answered, len(sent)+1), read(sent, answered, 1+max(0, piece)%64))
	})
}

func FuzzHandshake(f *testing.F) {
	f.Add([]byte("\x0a5.5.5-10.11.6-MariaDB\x00\x01\x00\x00\x00abcdefgh\x00\xfe\xf7!\x02\x00\xff\x81\x15" + string(make([]byte, 10)) + "ijklmnopqrst\x00mysql_native_password\x00"))
	f.Add(LoginBody("root", nativePassword, make([]byte, 20)))
	f.Fuzz(func(t *testing.T, body []byte) {
		if g, ok := readGreeting(body); ok && len(g.challenge) != challengeSize {
			t.Errorf("a challenge of %d bytes", len(g.challenge))
		}
		if len(body) > 0 {
			_, _ = readSwitch(body)
		}
		if l, ok := readChange(body); ok && len(l.response) <= 250 {
			again, ok := readChange(l.changed(l.response, l.plugin)[1:])
			require.True(t, ok)
			assert.Equal(t, l.changed(l.response, l.plugin), again.changed(again.response, again.plugin))
		}
		l, ok := readLogin(body)
		if !ok || len(l.response) > 250 {
			return
		}
		again, ok := readLogin(l.with(l.response, l.plugin))
		require.True(t, ok)
		assert.Equal(t, l.with(l.response, l.plugin), again.with(again.response, again.plugin))
	})
}

func FuzzCompressed(f *testing.F) {
	frame := func(b []byte) []byte {
		var z bytes.Buffer
		w := zlib.NewWriter(&z)
		_, _ = w.Write(b)
		_ = w.Close()
		return append(append(appendPacket(nil, 0, nil)[:0], byte(z.Len()), 0, 0, 0, byte(len(b)), 0, 0), z.Bytes()...)
	}
	f.Add(frame([]byte("\x09\x00\x00\x00\x03SELECT 1")), 3)
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00ab"), 1)
	f.Fuzz(func(t *testing.T, sent []byte, piece int) {
		open := func(piece int) (out []byte, lost bool) {
			c := compressed{to: func(p []byte) { out = append(out, p...) }}
			for rest := sent; len(rest) > 0; {
				n := min(piece, len(rest))
				c.feed(rest[:n])
				rest = rest[n:]
			}
			return out, c.lost
		}
		whole, lost := open(len(sent) + 1)
		parts, same := open(1 + max(0, piece)%64)
		assert.Equal(t, lost, same)
		assert.Equal(t, whole, parts)
	})
}
