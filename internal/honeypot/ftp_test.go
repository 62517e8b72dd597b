package honeypot_test

import (
	"bufio"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// FTP's attackers are let in by the pot's own server, as accounts that are made for them, in the machine that they meet by SSH.
func TestFTPOfAPot(t *testing.T) {
	f, _ := newBuiltin(t)
	l := f.grantService(t, "203.0.113.66/32", event.FTP)
	conn, err := f.dial(t.Context(), l.Endpoint)
	require.NoError(t, err)
	defer conn.Close() //nolint:errcheck // a test's connection
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	r := bufio.NewReader(conn)
	ask := func(text string) string {
		t.Helper()
		_, err := io.WriteString(conn, text)
		require.NoError(t, err)
		answer, err := r.ReadString('\n')
		require.NoError(t, err)
		return strings.TrimSpace(answer)
	}
	require.Equal(t, "220 (vsFTPd 3.0.3)", ask(""))
	ask("USER admin\r\n")
	require.Equal(t, "530 Login incorrect.", ask("PASS admin123\r\n"), "the image's own accounts are nobody's")
	ask("USER upload\r\n")
	require.Equal(t, "230 Login successful.", ask("PASS upload1\r\n"))
	assert.Equal(t, `257 "/home/upload" is the current directory`, ask("PWD\r\n"))
	assert.Contains(t, ask("MKD loot\r\n"), "257 ")
	ask("QUIT\r\n")
	require.NoError(t, conn.Close())
	var made *event.Request
	for _, e := range f.leftBy(t, l) {
		if e.Request != nil && e.Request.Args[0] == "MKD" {
			made = e.Request
		}
	}
	require.NotNil(t, made)
	assert.False(t, made.Failed)
	out, err := f.shell(t.Context(), f.grant(t, "203.0.113.66/32").Endpoint, "stat -c %U /home/upload/loot")
	require.NoError(t, err)
	assert.Equal(t, "upload\n", out)
}
