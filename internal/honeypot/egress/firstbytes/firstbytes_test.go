package firstbytes_test

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/honeypot/egress/firstbytes"
)

func TestRequests(t *testing.T) {
	for _, c := range []struct {
		in   string
		want firstbytes.Request
		rest string
		keep bool
	}{
		{
			"GET /x.sh HTTP/1.1\r\nHost: evil.com\r\nUser-Agent: curl/7.88.1\r\n\r\nmore",
			firstbytes.Request{Method: "GET", Target: "/x.sh", Version: "HTTP/1.1", Headers: []firstbytes.Header{{"Host", "evil.com"}, {"User-Agent", "curl/7.88.1"}}},
			"more", true,
		},
		{
			"POST /a b c HTTP/1.0\nContent-Length: 12\nBroken\n\n",
			firstbytes.Request{Method: "POST", Target: "/a b c", Version: "HTTP/1.0", Headers: []firstbytes.Header{{"Content-Length", "12"}, {"Broken", ""}}, Length: 12},
			"", false,
		},
		{"GET /old\r\n", firstbytes.Request{Method: "GET", Target: "/old"}, "", false},
		{"CONNECT a:443 HTTP/1.1\r\n\r\n", firstbytes.Request{Method: "CONNECT", Target: "a:443", Version: "HTTP/1.1"}, "", true},
		{
			"PUT / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n",
			firstbytes.Request{Method: "PUT", Target: "/", Version: "HTTP/1.1", Headers: []firstbytes.Header{{"Transfer-Encoding", "gzip, chunked"}, {"Connection", "close"}}, Length: -1},
			"", false,
		},
		{"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", firstbytes.Request{Method: "GET", Target: "/", Version: "HTTP/1.1", Headers: []firstbytes.Header{{"Content-Length", "-5"}}}, "", true},
	} {
		got, n, ok := firstbytes.ParseHTTP([]byte(c.in))
		require.True(t, ok, "%q", c.in)
		assert.Equal(t, c.want, got)
		assert.Equal(t, c.rest, c.in[n:])
		assert.Equal(t, c.keep, got.KeepAlive(), "%q", c.in)
		if head := c.in[:n]; c.want.Version != "" {
			for i := range head {
				_, n, ok := firstbytes.ParseHTTP([]byte(head[:i]))
				assert.Zero(t, n, "%q", head[:i])
				assert.Equal(t, i > 0, ok, "%q", head[:i])
			}
		}
	}
	for _, in := range []string{"", "\x16\x03", "get / HTTP/1.0\r\n", "SSH-2.0-x\r\n", "A / HTTP/1.0\r\n", "NICK bot\r\n", "EHLO me\r\n", strings.Repeat("G", 100)} {
		_, _, ok := firstbytes.ParseHTTP([]byte(in))
		assert.False(t, ok, "%q", in)
	}
	_, _, ok := firstbytes.ParseHTTP([]byte("GET /" + strings.Repeat("a", firstbytes.MaxHead)))
	assert.False(t, ok, "a head has a bound")
}

// hello is what a client of Go's says first.
func hello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(a, c).Handshake()
	}()
	buf := make([]byte, 64<<10)
	require.NoError(t, b.SetDeadline(time.Now().Add(time.Minute)))
	n, err := b.Read(buf)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	<-done
	return buf[:n]
}

func TestHello(t *testing.T) {
	raw := hello(t, &tls.Config{ServerName: "evil.com", NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12})
	h, done, ok := firstbytes.ParseHello(raw)
	require.True(t, done && ok)
	assert.Equal(t, "evil.com", h.ServerName)
	assert.Equal(t, []string{"h2", "http/1.1"}, h.Protocols)
	assert.Len(t, h.JA3, 32)
	for i := 1; i < len(raw); i++ {
		_, done, ok := firstbytes.ParseHello(raw[:i])
		assert.True(t, !done && ok, "%d bytes of %d", i, len(raw))
	}
	other := hello(t, &tls.Config{ServerName: "other.com", NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12})
	same, _, _ := firstbytes.ParseHello(other)
	assert.Equal(t, h.JA3, same.JA3, "a fingerprint is the client's, not the name's")

	// In two records.
	body := raw[5:]
	split := append([]byte{22, 3, 1, 0, 10}, body[:10]...)
	split = append(append(split, 22, 3, 1, byte((len(body)-10)>>8), byte(len(body)-10)), body[10:]...)
	h, done, ok = firstbytes.ParseHello(split)
	assert.True(t, done && ok)
	assert.Equal(t, "evil.com", h.ServerName)
}

// The example of JA3's authors.
func TestJA3(t *testing.T) {
	ext := []byte{
		0, 0, 0, 0, // an empty server name
		0, 10, 0, 8, 0, 6, 0, 23, 0, 24, 0, 25,
		0, 11, 0, 2, 1, 0,
	}
	ciphers := []byte{0, 47, 0, 53, 0, 5, 0, 10, 192, 9, 192, 10, 192, 19, 192, 20, 0, 50, 0, 56, 0, 19, 0, 4}
	hello := append([]byte{3, 1}, make([]byte, 32)...)
	hello = append(hello, 0, 0, byte(len(ciphers)))
	hello = append(hello, ciphers...)
	hello = append(hello, 1, 0, 0, byte(len(ext)))
	hello = append(hello, ext...)
	msg := append([]byte{1, 0, 0, byte(len(hello))}, hello...)
	h, done, ok := firstbytes.ParseHello(append([]byte{22, 3, 1, 0, byte(len(msg))}, msg...))
	require.True(t, done && ok)
	assert.Equal(t, "ada70206e40642a3e4461f35503241d5", h.JA3, "769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0")
}

func TestWhatIsGivenDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "bytes")
		head := append([]byte("GET / HTTP/1.1\r\n"), b...)
		if _, n, ok := firstbytes.ParseHTTP(head); n > len(head) || ok && n == 0 && len(head) > firstbytes.MaxHead {
			t.Fatalf("%d of %d", n, len(head))
		}
		if _, done, ok := firstbytes.ParseHello(append([]byte{22, 3, 1}, b...)); ok && !done && len(b) > firstbytes.MaxHello {
			t.Fatal("it never ends")
		}
	})
}

func FuzzHTTP(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("POST http://a/ HTTP/1.0\nContent-Length: 5\n\nabcde"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, _ := firstbytes.ParseHTTP(b)
		if n > len(b) || n > 0 && r.Method == "" || r.Length < -1 {
			t.Fatalf("%d of %d bytes, %+v", n, len(b), r)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(hello(f, &tls.Config{ServerName: "a.b", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}))
	f.Add([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, done, ok := firstbytes.ParseHello(b)
		if !done && !ok && len(b) < firstbytes.MaxHello || len(h.ServerName) > len(b) || len(h.Protocols) > 16 {
			t.Fatalf("%v %v %+v", done, ok, h)
		}
	})
}
