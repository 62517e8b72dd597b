package web_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestAnswersAreTheServers sends the same requests to the server and through the front, and compares every byte but the date's.
func TestAnswersAreTheServers(t *testing.T) {
	address, s := server(t), open(t, server(t)) // of each its own, since requests leave files
	text := rapid.OneOf(rapid.StringMatching(`[ -~]{0,60}`), rapid.SampledFrom([]string{"", strings.Repeat("x", 3_000), `"`, "a:b", "..", "%00"}))
	target := rapid.SampledFrom([]string{"/", "/index.html", "/large", "/nosuch", "/admin/", "/moved", "/say/a", "/put/x", "/put/y", "/?a=b", "//", "/../x", "/%zz", "/a b", "*"})
	method := rapid.SampledFrom([]string{"GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "X-Y", "TRACE"})
	field := rapid.SampledFrom([]string{
		"Accept: */*", "Range: bytes=0-9", "Range: bytes=5-3", "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT", "If-None-Match: *", "Connection: keep-alive", "Cookie: a={v}",
		"User-Agent: {v}", "X: {v}", "Authorization: Basic {v}", "Authorization: Bearer x", "Accept-Encoding: gzip", "Expect: 100-continue", "no field", "Host: other",
	})
	body := rapid.SampledFrom([]string{"", "", "", "length", "chunked", "form", "search", "both"})
	request := func() string {
		value := strings.NewReplacer("{v}", text.Example(rand.Int()))
		m := method.Example(rand.Int())
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s HTTP/1.%d\r\nHost: a\r\n", m, target.Example(rand.Int()), min(1, rand.IntN(8)))
		for range rand.IntN(4) {
			b.WriteString(value.Replace(field.Example(rand.Int())) + "\r\n")
		}
		content := strings.Repeat("content ", rand.IntN(2_000))
		switch body.Example(rand.Int()) {
		case "length":
			fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(content), content)
		case "chunked":
			fmt.Fprintf(&b, "Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%s\r\n0\r\nTrailer: t\r\n\r\n", len(content)+1, content+"x")
		case "form":
			form := "user=root&password=" + strconv.Itoa(rand.IntN(3)) // none is ever right: they are of one account and long known
			fmt.Fprintf(&b, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(form), form)
		case "search":
			fmt.Fprintf(&b, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\nq=%%20")
		case "both":
			b.WriteString("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
		default:
			b.WriteString("\r\n")
		}
		return b.String()
	}
	straight, through := &wire{}, &wire{}
	const requests = 10_000
	for range requests {
		if straight.ended || straight.r == nil {
			straight.dial(t, s.DialTo(t, address))
			through.dial(t, s.Dial(t))
		}
		said := request()
		require.Equal(t, straight.ask(t, said), through.ask(t, said), "%q", said)
		require.Equal(t, straight.ended, through.ended, "%q", said)
	}
}

// wire is a client that shows every byte.
type wire struct {
	conn  io.WriteCloser
	r     *bufio.Reader
	ended bool
}

func (w *wire) dial(t *testing.T, conn interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
},
) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(5*time.Minute)))
	w.conn, w.r, w.ended = conn, bufio.NewReader(conn), false
}

// ask sends a request and reads what it is answered.
func (w *wire) ask(t *testing.T, said string) string {
	t.Helper()
	_, _ = io.WriteString(w.conn, said)
	var all strings.Builder
	method, _, _ := strings.Cut(said, " ")
	for {
		resp, err := http.ReadResponse(w.r, &http.Request{Method: method})
		if err != nil {
			w.ended = true
			break
		}
		fmt.Fprintf(&all, "%s %s\n", resp.Proto, resp.Status)
		resp.Header.Del("Date")
		if strings.Contains(said[:min(len(said), 40)], "/put/") { // a file that was written just then
			resp.Header.Del("Last-Modified")
			resp.Header.Del("ETag")
		}
		_ = resp.Header.Write(&all)
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		all.Write(body)
		fmt.Fprintln(&all, err, resp.Close)
		w.ended = resp.Close || err != nil
		if resp.StatusCode != http.StatusContinue {
			break
		}
	}
	if w.ended {
		_ = w.conn.Close()
	}
	return all.String()
}
