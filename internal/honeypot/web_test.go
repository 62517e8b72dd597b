package honeypot_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// The administration of a pot's site opens to who has guessed often enough, by HTTP and by HTTPS; what was asked for is evidence, and the
// certificate is that of a host of the persona's name.
func TestWebOfAPot(t *testing.T) {
	f, _ := newBuiltin(t)
	l := f.grantService(t, "203.0.113.66/32", event.HTTP)
	get := func(to netip.AddrPort, scheme, password string) (status int, body, name string) {
		t.Helper()
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dial(ctx, to) },
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives: true,
		}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+"://shop.example.com/admin/", nil)
		require.NoError(t, err)
		req.SetBasicAuth("admin", password)
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // it was read
		page, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		if resp.TLS != nil {
			name = resp.TLS.PeerCertificates[0].Subject.String()
		}
		return resp.StatusCode, string(page), name
	}
	status, body, _ := get(l.Endpoint, "http", "wrong")
	assert.Equal(t, 401, status)
	assert.NotContains(t, body, "Orders")
	status, body, _ = get(l.Endpoint, "http", "right")
	assert.Equal(t, 200, status)
	assert.Contains(t, body, "Orders")
	status, body, name := get(l.Endpoint, "https", "right")
	assert.Equal(t, 200, status)
	assert.Contains(t, body, "Orders")
	assert.Equal(t, "CN=web", name)
	left := f.leftBy(t, l)
	var logins []bool
	var asked []event.Request
	for _, e := range left {
		if e.Login != nil {
			logins = append(logins, e.Login.Success)
		}
		if e.Request != nil {
			asked = append(asked, *e.Request)
		}
	}
	assert.Equal(t, []bool{true}, logins[len(logins)-1:])
	assert.Equal(t, event.Bytes("HTTP/1.1 200 OK"), asked[len(asked)-1].Answer)
}
