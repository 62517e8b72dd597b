package intake

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHostname(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"Nov 22 18:00:00 web sshd[1]: msg":                                 "web",
		"Nov  2 18:00:00 web.example.net sshd[1]: msg":                     "web.example.net",
		"Nov 02 18:00:00 203.0.113.10 sshd: msg":                           "203.0.113.10",
		"Nov 22 18:00:00 2001:db8::1 sshd: msg":                            "2001:db8::1",
		"2026-11-22T18:00:00.123456+01:00 web sshd[1]: msg":                "web",
		"2026-11-22T18:00:00Z web sshd[1]: msg":                            "web",
		"1 2026-11-22T18:00:00.1Z web sshd 1 - - msg":                      "web",
		"1 - web sshd 1 - - msg":                                           "web",
		"1 2026-11-22T18:00:00Z - sshd 1 - - msg":                          "",
		"Nov 22 18:00:00 sshd[1]: Failed password for root":                "",
		"Nov 22 18:00:00 sshd: Failed password":                            "",
		"Nov 22 18:00:00 web":                                              "",
		"Nov 22 18:00:00":                                                  "",
		"Nov 22 18:00:00  web sshd: two spaces":                            "",
		"ovN 22 18:00:00 web sshd: msg":                                    "",
		"Nov 2x 18:00:00 web sshd: msg":                                    "",
		"2026-11-22 18:00:00 web sshd: msg":                                "",
		"2026-11-22T18:00:00 web sshd: msg":                                "",
		"2026-11-22T18:00:00+0100 web sshd: msg":                           "",
		"1 2026-11-22T18:00:00Zx web sshd 1 - - msg":                       "",
		"1 Nov 22 18:00:00 web sshd: msg":                                  "",
		"":                                                                 "",
		"\x00\xff":                                                         "",
		"Nov 22 18:00:00 we\x1b[31mb sshd: msg":                            "",
		"Nov 22 18:00:00 " + string(bytes.Repeat([]byte("a"), 256)) + " x": "",
	} {
		assert.Equal(t, want, string(hostname([]byte(line))), "%q", line)
	}
}

// FuzzHostname: no panic, and what a line says after its host's name changes nothing.
func FuzzHostname(f *testing.F) {
	for _, s := range []string{
		"Nov 22 18:00:00 web sshd[1]: msg", "2026-11-22T18:00:00.1+00:00 web sshd[1]: msg", "1 2026-11-22T18:00:00Z web sshd 1 - - msg",
		"1 - - - - - -", "Nov 22 18:00:00 ", "2026-11-22T18:00:00.", "Nov  1 00:00:00 ::1 x",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		name := hostname(line)
		if name == nil {
			return
		}
		require.NotEmpty(t, name)
		require.LessOrEqual(t, len(name), maxHostname)
		require.False(t, bytes.ContainsAny(name, " \n\x1b[]<>"), "%q", name)
		require.True(t, bytes.Contains(line, append(append([]byte{' '}, name...), ' ')))
		again := hostname(append(bytes.Clone(line), " Nov 22 18:00:00 other sshd[1]: forged"...))
		require.Equal(t, name, again)
	})
}
