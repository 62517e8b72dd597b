package honeypot_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Telnet's attackers log in at the pot's own login(1), as accounts that are made for them, to the machine that they meet by SSH.
func TestTelnetOfAPot(t *testing.T) {
	f, _ := newBuiltin(t)
	l := f.grantService(t, "203.0.113.66/32", event.Telnet)
	conn, err := f.dial(t.Context(), l.Endpoint)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // a test's connection
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	var seen []byte
	buf := make([]byte, 4096)
	sees := func(text string) {
		t.Helper()
		for !bytes.Contains(seen, []byte(text)) {
			n, err := conn.Read(buf)
			require.NoError(t, err, "%q is waited for after %q", text, seen)
			for i := 0; i < n; i++ { // what its program wants, a bot's refuses
				if buf[i] == 0xff && i+2 < n {
					switch buf[i+1] {
					case 0xfd: // DO
						_, _ = conn.Write([]byte{0xff, 0xfc, buf[i+2]})
					case 0xfb: // WILL
						_, _ = conn.Write([]byte{0xff, 0xfe, buf[i+2]})
					}
					i += 2
					continue
				}
				seen = append(seen, buf[i])
			}
		}
		seen = seen[bytes.Index(seen, []byte(text))+len(text):]
	}
	for _, step := range [][2]string{
		{"web login: ", "admin"},
		{"Password: ", "admin123"},
		{"Login incorrect", ""},
		{"web login: ", "support"},
		{"Password: ", "support"},
		{"$ ", "echo mark >/tmp/by-telnet; id -un"},
		{"support", "who"},
		{"support", "exit"},
	} {
		sees(step[0])
		if step[1] != "" {
			_, err := io.WriteString(conn, step[1]+"\r\n")
			require.NoError(t, err)
		}
	}
	_, _ = io.Copy(io.Discard, conn)
	var logins, typed []string
	for _, e := range f.leftBy(t, l) {
		if e.Login != nil {
			logins = append(logins, string(e.Login.Account)+map[bool]string{true: " in", false: " refused"}[e.Login.Success])
		}
		if e.Input != "" {
			typed = append(typed, string(e.Input))
		}
	}
	assert.Equal(t, []string{"admin refused", "support in"}, logins, "the image's own accounts are nobody's")
	assert.Equal(t, []string{"echo mark >/tmp/by-telnet; id -un", "who", "exit"}, typed)
	out, err := f.shell(t.Context(), f.grant(t, "203.0.113.66/32").Endpoint, "cat /tmp/by-telnet; grep -c 'FAILED LOGIN' /var/log/auth.log")
	require.NoError(t, err)
	assert.Equal(t, []string{"mark", "1"}, strings.Fields(out))
}
