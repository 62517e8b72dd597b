package telnet

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
)

// cut is what a stream makes of bytes that come in pieces.
func cut(p []byte, piece int) (data []byte, commands []string) {
	var s stream
	for len(p) > 0 {
		n := min(piece, len(p))
		s.split(p[:n], func(b []byte) { data = append(data, b...) }, func(raw []byte) { commands = append(commands, hex.EncodeToString(raw)) })
		p = p[n:]
	}
	return data, commands
}

func TestStream(t *testing.T) {
	for said, want := range map[string]struct {
		data     string
		commands []string
	}{
		"plain":                                 {"plain", nil},
		"a\xff\xffb":                            {"a\xffb", nil},
		"a\xff\xfb\x18b\xff\xf1c":               {"abc", []string{"fffb18", "fff1"}},
		"\xff\xfa\x1f\x00\x50\x00\x18\xff\xf0x": {"x", []string{"fffa1f00500018fff0"}},
		"\xff\xfa\x18\x00\xff\xff\xf0\xff\xf0x": {"x", []string{"fffa1800fffff0fff0"}},
		"\xff\xfa\x18":                          {"", nil},
	} {
		for _, piece := range []int{1, 2, 100} {
			data, commands := cut([]byte(said), piece)
			assert.Equal(t, want.data, string(data), "%q", said)
			assert.Equal(t, want.commands, commands, "%q", said)
		}
	}
}

func TestVariables(t *testing.T) {
	got := map[string]string{}
	variables([]byte("\x00\x00USER\x01root\x03X\x01a\x02\x01b\x00EMPTY"), func(name, value string) { got[name] = value })
	assert.Equal(t, map[string]string{"USER": "root", "X": "a\x01b", "EMPTY": ""}, got)
}

func FuzzStream(f *testing.F) {
	f.Add([]byte("a\xff\xfa\x27\x00\x00USER\x01x\xff\xf0b\xff\xff\xff\xfd\x01"), 3)
	f.Fuzz(func(t *testing.T, p []byte, piece int) {
		data, commands := cut(p, len(p)+1)
		parts, same := cut(p, 1+max(0, piece)%16)
		assert.Equal(t, data, parts)
		assert.Equal(t, commands, same)
		for _, raw := range [][]byte{p, data} {
			_, value := option(raw)
			_, _, _ = window(value)
			variables(value, func(string, string) {})
		}
	})
}
