package ssh_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	gossh "golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/channel"
)

// Whatever a client that is in asks for, in whatever order, it harms nobody but itself.
func TestRandomRequestsHarmNobody(t *testing.T) { each(t, testRandomRequestsHarmNobody) }

func testRandomRequestsHarmNobody(t *testing.T, via transport) {
	t.Helper()
	s := newSite(t, via)
	s.letIn(t)
	rapid.Check(t, func(r *rapid.T) {
		c := s.dial(t)
		defer c.Close() //nolint:errcheck // it may be closed already
		opener := channel.New(c)
		names := rapid.SampledFrom([]string{
			"pty-req", "env", "shell", "exec", "subsystem", "window-change", "signal", "break", "xon-xoff", "eow@openssh.com",
			"auth-agent-req@openssh.com", "x11-req", "exit-status", "nonsense", "",
		})
		payload := rapid.OneOf(
			rapid.SliceOfN(rapid.Byte(), 0, 200),
			rapid.Map(rapid.StringN(0, 20, 80), func(s string) []byte { return gossh.Marshal(struct{ S string }{s}) }),
		)
		for range rapid.IntRange(1, 3).Draw(r, "channels") {
			ch, reqs, err := opener.Open("session", nil)
			if err != nil {
				return
			}
			go gossh.DiscardRequests(reqs)
			for range rapid.IntRange(0, 8).Draw(r, "requests") {
				if _, err := ch.SendRequest(names.Draw(r, "name"), rapid.Bool().Draw(r, "reply"), payload.Draw(r, "payload")); err != nil {
					break
				}
			}
			if rapid.Bool().Draw(r, "data") {
				data := payload.Draw(r, "data")
				go func() { _, _ = ch.Write(data) }() // OpenSSH lets nobody write to what has not begun: until the end, perhaps
			}
			if rapid.Bool().Draw(r, "close") {
				_ = ch.Close()
			}
		}
		for _, name := range []string{"tcpip-forward", "cancel-tcpip-forward", "streamlocal-forward@openssh.com", "keepalive@openssh.com", "?"} {
			if _, _, err := c.SendRequest(name, true, payload.Draw(r, "global")); err != nil {
				return
			}
		}
		for _, kind := range []string{"direct-tcpip", "direct-streamlocal@openssh.com", "x11", "forwarded-tcpip", "?"} {
			if ch, reqs, err := opener.Open(kind, payload.Draw(r, "open")); err == nil {
				go gossh.DiscardRequests(reqs)
				_ = ch.Close()
			}
		}
	})
	out, errs, code := s.openssh(t, "", "127.0.0.1", "echo alive")
	require.Zero(t, code, errs)
	assert.Equal(t, "alive\n", out)
}
