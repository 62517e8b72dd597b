package transfer_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/transfer"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for command, want := range map[string][]string{
		"":                            nil,
		" \t ":                        nil,
		"scp -t /tmp":                 {"scp", "-t", "/tmp"},
		"  scp   -t\t/tmp ":           {"scp", "-t", "/tmp"},
		`scp -t 'a b'`:                {"scp", "-t", "a b"},
		`scp -t 'a;b|c&d$e` + "`\n'":  {"scp", "-t", "a;b|c&d$e`\n"},
		`a'b'"c"\d`:                   {"abcd"},
		`'' ""`:                       {"", ""},
		`a '' b`:                      {"a", "", "b"},
		`"a\"b\\c\$d\` + "`" + `e\f"`: {`a"b\c$d` + "`" + `e\f`},
		"\"a\\\nb\" c\\\nd":           {"ab", "cd"},
		`\'`:                          {"'"},
		`'\'`:                         {`\`},
		`a#b '#c' \#d`:                {"a#b", "#c", "#d"},
		"\xff\xfe é":                  {"\xff\xfe", "é"},
		"a\\\n b":                     {"a", "b"},
	} {
		got, ok := transfer.Words(command)
		assert.True(t, ok, "%q", command)
		assert.Equal(t, want, got, "%q", command)
	}
	for _, command := range []string{
		"a;b", "a|b", "a&", "a $b", "a`b`", "a<b", "a>b", "a\nb", "a\n", "(a)", "a)", `"$a"`, "\"`a`\"", `'a`, `"a`, `"a\`, `a\`, "a # b", "#", "a\x00",
		"'\x00'", "\"\x00\"", "\\\x00", "\"\\\x00\"", strings.Repeat("a", 64<<10+1),
	} {
		_, ok := transfer.Words(command)
		assert.False(t, ok, "%.20q", command)
	}
}

// TestWordsAsTheShell: what a shell makes of a command is what we make of it.
func TestWordsAsTheShell(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		command := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{
			"a", "b", " ", "\t", "'", `"`, `\`, "\n", "$", "#", "é", "-", "''", `\"`, "%",
		}), 0, 12).Draw(rt, "command"), "")
		words, ok := transfer.Words(command)
		if !ok || strings.HasPrefix(command, "-") {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, "sh", "-c", `printf '%s\000' x `+command).Output()
		require.NoError(rt, err, "%q", command)
		require.Equal(rt, append([]string{"x"}, words...), strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"), "%q", command)
	})
}

func TestParseSCP(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]struct {
		target string
		folder bool
	}{
		"scp -t /tmp":                  {"/tmp", false},
		"/usr/bin/scp -t -- -x":        {"-x", false},
		"scp -v -r -p -d -t .":         {".", true},
		"scp -vrpdt a":                 {"a", true},
		"scp -l 100 -t -c aes a":       {"a", false},
		"scp -l100 -tq a":              {"a", false},
		"scp -t -":                     {"-", false},
		"scp -t ''":                    {"", false},
		"busybox/scp -p -t '/tmp/a b'": {"/tmp/a b", false},
	} {
		words, ok := transfer.Words(command)
		require.True(t, ok)
		target, folder, ok := transfer.ParseSCP(words)
		assert.True(t, ok, command)
		assert.Equal(t, want.target, target, command)
		assert.Equal(t, want.folder, folder, command)
	}
	for _, command := range []string{"", "scp", "scp -t", "scp -f /tmp", "scp -t a b", "scp a b", "ls -t a", "scp -l", "scp -l -t", "scp a -t", "-t a", "xscp -t a"} {
		words, ok := transfer.Words(command)
		require.True(t, ok)
		_, _, ok = transfer.ParseSCP(words)
		assert.False(t, ok, command)
	}
}

func TestIsRsyncServer(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]struct {
		target    string
		receiving bool
	}{
		"rsync --server -vlogDtpre.iLsfxCIvu . /tmp/x":        {"/tmp/x", true},
		"/usr/bin/rsync --server -e.LsfxCIvu --delete . .":    {".", true},
		`rsync --server -e.Lsf --partial-dir . . a\ b`:        {"a b", true},
		"rsync --server -se.LsfxCIvu":                         {"", true},
		"rsync --server --sender -vlogDtpre.iLsfxCIvu . /etc": {"", false},
		"rsync --server -vlogDtpre.iLsfxCIvu --sender . /etc": {"", false},
		"rsync -a a b":                {"", false},
		"rsync":                       {"", false},
		"rsync --daemon --server . x": {"", false},
		"":                            {"", false},
	} {
		words, ok := transfer.Words(command)
		require.True(t, ok)
		target, receiving := transfer.IsRsyncServer(words)
		assert.Equal(t, want.target, target, command)
		assert.Equal(t, want.receiving, receiving, command)
	}
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{
		`scp -t 'a b'`, `"a\"b\\c\$d"`, "a\\\nb", `''`, "a;b", `"`, `\`, "scp -v -r -p -d -t -- x", "rsync --server -e.Lsf . /tmp", "a #", "\x00", "\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, command string) {
		words, ok := transfer.Words(command)
		if !ok {
			require.Nil(t, words)
			return
		}
		total := 0
		quoted := make([]string, len(words))
		for i, word := range words {
			total += len(word)
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		require.LessOrEqual(t, total, len(command))
		if joined := strings.Join(quoted, " "); len(joined) <= 64<<10 {
			again, ok := transfer.Words(joined)
			require.True(t, ok)
			require.Equal(t, words, again)
		}
		transfer.ParseSCP(words)
		transfer.IsRsyncServer(words)
	})
}
