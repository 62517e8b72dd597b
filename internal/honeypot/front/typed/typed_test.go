package typed_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/typed"
)

func cases() map[string][]string {
	return map[string][]string{
		"id\r":                                {"id"},
		"id":                                  nil,
		"a\nb\r\nc\rd\n\r":                    {"a", "b", "c", "d", ""},
		"\r\r":                                {"", ""},
		"lls\x7f\x7f\x7fls\r":                 {"ls"},
		"\x7f\x08x\x08y\r":                    {"y"},
		"aé\x7fb\r":                           {"ab"},
		"日本\x7f語\r":                           {"日語"},
		"a\xff\x7fb\xe6\x97\x7f\x7f\r":        {"ab"},
		"passwd\x15ls\r":                      {"ls"},
		"rm -rf  \x17-r x\r":                  {"rm -r x"},
		"\x17\x15\x0b\x04\x01\x05ok\r":        {"ok"},
		"sleep 9\x03id\r":                     {"id"},
		"cat /et\tpas\t\r":                    {"cat /et\tpas\t"},
		"\x04":                                nil,
		"abc\x01\x04\r":                       {"bc"},
		"ac\x1b[Db\x1b[Cd\r":                  {"abcd"},
		"ac\x1bODb\x1bOCd\r":                  {"abcd"},
		"é\x1b[Da\r":                          {"aé"},
		"b\x1b[Ha\x1b[Fc\r":                   {"abc"},
		"b\x1bOHa\x1bOFc\r":                   {"abc"},
		"b\x1b[1~a\x1b[4~c\x1b[7~0\x1b[8~d\r": {"0abcd"},
		"abc\x1b[D\x1b[D\x1b[3~\r":            {"ac"},
		"abc\x01\x06X\x02\x02Y\x05Z\r":        {"YaXbcZ"},
		"one two\x1b[1;5DX\x1b[1;5CY\r":       {"one XtwoY"},
		"one two\x1bbX\x1bfY\r":               {"one XtwoY"},
		"one two\x1b\x7fx\r":                  {"one x"},
		"one two\x01\x1bdx\r":                 {"x two"},
		"one two\x02\x02\x0b\r":               {"one t"},
		"ab\x02\x15\r":                        {"b"},
		"\x1b[A\x1b[B\x1bOA\x1b[5~ls\r":       {"ls"},
		"\x1b[200~wget x\rid\x1b[201~\r":      {"wget x", "id"},
		"\x1b[?1;2cls\x1b[24;80R\r":           {"ls"},
		"\x1b]11;rgb:0/0/0\x07ls\r":           {"ls"},
		"\x1b]11;rgb:0/0/0\x1b\\ls\r":         {"ls"},
		"\x1bP1$r0m\x1b\\ls\r":                {"ls"},
		"\x1b]wget evil\rid\r":                {"wget evil", "id"},
		"\x1b]x\x03id\r":                      {"id"},
		"\x1b[\rid\x1b\r":                     {"", "id"},
		"\x1b\x1b[Da\r":                       {"a"},
		"\x1bO\rx\r":                          {"", "x"},
		"a\x00\x07\x0c\x1fb\r":                {"ab"},
		"\x1b" + "xa\r":                       {"a"},
	}
}

func texts(lines []typed.Line) (texts []string) {
	for _, l := range lines {
		texts = append(texts, string(l.Text))
	}
	return texts
}

func TestInput(t *testing.T) {
	t.Parallel()
	for keys, want := range cases() {
		assert.Equal(t, want, texts(typed.New(0).Input([]byte(keys))), "%q", keys)
		assert.Equal(t, want, texts(single(typed.New(0), keys)), "%q, key by key", keys)
	}
}

func single(k *typed.Keys, keys string) (lines []typed.Line) {
	for i := range len(keys) {
		lines = append(lines, k.Input([]byte(keys[i:i+1]))...)
	}
	return lines
}

func TestBounds(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", typed.MaxLine)
	k := typed.New(1 << 20)
	assert.Equal(t, []typed.Line{{Text: event.Bytes(long)}}, k.Input([]byte(long+"\r")))
	assert.Equal(t, []typed.Line{{Text: event.Bytes(long), Truncated: true}, {Text: "y"}}, k.Input([]byte(long+"x\ry\r")))
	assert.Equal(t, []typed.Line{{Text: "y"}}, k.Input([]byte(long+"x\x15y\r")), "what was too long was deleted")
	assert.Equal(t, []typed.Line{{Text: "ab", Truncated: true}}, typed.New(2).Input([]byte("abc\r")))
	assert.Equal(t, []typed.Line{{Text: "y"}}, k.Input([]byte("\x1b["+strings.Repeat("1", 1<<20)+"my\r")))
	assert.Len(t, k.Input([]byte("\x1b]" + strings.Repeat("1", 3*256) + "\r"))[0].Text, 3*256, "no report is that long")
}

// TestPieces: keys in any pieces are the same lines.
func TestPieces(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		keys := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{
			"a", "é", " ", "\r", "\n", "\x1b", "[", "D", "\x1b[D", "\x1b[C", "\x7f", "\x17", "\x15", "\x1b]", "\x07", "\\", "\x03", "~", "3", "\xff",
		})).Draw(t, "keys"), "")
		want := typed.New(8).Input([]byte(keys))
		k := typed.New(8)
		var have []typed.Line
		for keys != "" {
			n := rapid.IntRange(1, len(keys)).Draw(t, "n")
			have = append(have, k.Input([]byte(keys[:n]))...)
			keys = keys[n:]
		}
		require.Equal(t, want, have)
	})
}

func FuzzInput(f *testing.F) {
	for keys := range cases() {
		f.Add([]byte(keys))
	}
	f.Fuzz(func(t *testing.T, keys []byte) {
		lines := typed.New(16).Input(keys)
		require.Equal(t, lines, single(typed.New(16), string(keys)))
		for _, l := range lines {
			require.LessOrEqual(t, len(l.Text), 16)
			require.NotContains(t, string(l.Text), "\r")
			require.NotContains(t, string(l.Text), "\x1b")
		}
	})
}
