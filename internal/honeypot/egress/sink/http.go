package sink

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/firstbytes"
)

const (
	maxURL         = 4096
	maxHeaderValue = 1024
	maxToldHeaders = 32
)

// http answers requests.
func (c *call) http(ctx context.Context) {
	for i := range maxRequests {
		r, n, ok := firstbytes.ParseHTTP(c.buf)
		if n == 0 && ok {
			if c.more(silence) == nil {
				continue
			}
			ok = false
		}
		if !ok {
			switch {
			case i == 0:
				c.other()
			case len(c.buf) > 0:
				c.raw()
			}
			return
		}
		c.buf = c.buf[n:]
		if !c.request(ctx, r) {
			return
		}
	}
}

// request answers one request, and tells it; more says that another may come.
func (c *call) request(ctx context.Context, r firstbytes.Request) (more bool) {
	e := event.Egress{
		What: "request", Protocol: "http", Method: event.Bytes(r.Method), URL: event.Bytes(c.url(r)), Bytes: max(r.Length, 0),
	}
	if c.secure {
		e.Protocol = "https"
	}
	for _, h := range r.Headers[:min(len(r.Headers), maxToldHeaders)] {
		e.Headers = append(e.Headers, event.EgressHeader{Name: event.Bytes(cutText(h.Name, 128)), Value: event.Bytes(cutText(h.Value, maxHeaderValue))})
	}
	body, whole := c.body(r)
	e.Data = event.Bytes(body)
	a := c.answer(ctx, r, &e)
	e.Status = a.status
	c.tell(e) // before the client goes on: what it runs next comes after this
	if a.close || !whole || !r.KeepAlive() {
		a.close = true
	}
	if !c.send(r, a) {
		return false
	}
	return !a.close
}

// body reads a request's body, of which the first bytes are returned. whole says that the next request follows it.
func (c *call) body(r firstbytes.Request) (first []byte, whole bool) {
	if r.Length == 0 {
		return nil, true
	}
	if strings.EqualFold(r.Get("Expect"), "100-continue") && c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n")) != nil {
		return nil, false
	}
	if r.Length < 0 { // in pieces whose lengths nobody trusts
		c.gather(keptData)
		first = c.buf[:min(len(c.buf), keptData)]
		c.buf = nil
		return first, false
	}
	left := r.Length
	for {
		n := int(min(left, int64(len(c.buf))))
		first = append(first, c.buf[:min(n, keptData-len(first))]...)
		c.buf = c.buf[n:]
		if left -= int64(n); left == 0 {
			return first, true
		}
		if c.more(silence) != nil {
			return first, false
		}
	}
}

// url is what a request asks for, as far as the client says.
func (c *call) url(r firstbytes.Request) string {
	if strings.Contains(cutText(r.Target, 16), "://") || r.Method == "CONNECT" {
		return cutText(r.Target, maxURL)
	}
	scheme, usual := "http://", uint16(80)
	if c.secure {
		scheme, usual = "https://", 443
	}
	host := r.Get("Host")
	if host == "" || strings.ContainsAny(host, "/ ?#@") {
		name, _ := c.s.nameOf(c.pot, c.to.Addr())
		host = hostOf(c.to, usual, name)
	}
	return cutText(scheme+host+r.Target, maxURL)
}

// hostName is the name that the client means, in lower case without a port.
func (c *call) hostName(r firstbytes.Request) string {
	host := r.Get("Host")
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// answer is what a request gets.
type answer struct {
	status  int
	headers []firstbytes.Header
	body    []byte
	file    *Fetched // instead of body
	close   bool
	drop    bool // the connection ends without an answer
}

// answer decides what a request gets: what is fetched for it, where that is wanted, or what is made up.
func (c *call) answer(ctx context.Context, r firstbytes.Request, e *event.Egress) answer {
	e.How = "sinkhole"
	if c.pot.Policy == event.EgressRecord && c.s.o.Fetch != nil {
		if a, ok := c.fetch(ctx, r, e); ok {
			return a
		}
	}
	return c.s.madeUp(c.pot, c.hostName(r), r)
}

// send writes an answer; ok is false where the connection is no more.
func (c *call) send(r firstbytes.Request, a answer) (ok bool) {
	if a.file != nil {
		defer a.file.Close()
	}
	if a.drop {
		return false
	}
	size := int64(len(a.body))
	if a.file != nil {
		size = a.file.Size
	}
	if r.Version != "" {
		var head strings.Builder
		fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", a.status, statusText(a.status))
		for _, h := range a.headers {
			fmt.Fprintf(&head, "%s: %s\r\n", h.Name, h.Value)
		}
		if a.status != 204 && a.status != 304 {
			fmt.Fprintf(&head, "Content-Length: %d\r\n", size)
		}
		if a.close {
			head.WriteString("Connection: close\r\n")
		} else {
			head.WriteString("Connection: keep-alive\r\n")
		}
		head.WriteString("\r\n")
		if c.write([]byte(head.String())) != nil {
			return false
		}
	}
	if r.Method == "HEAD" {
		return true
	}
	if a.file != nil {
		return a.file.copyTo(c) == nil
	}
	return c.write(a.body) == nil
}

func statusText(status int) string {
	if t, ok := map[int]string{
		200: "OK", 204: "No Content", 206: "Partial Content", 301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified",
		307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
		405: "Not Allowed", 410: "Gone", 429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
	}[status]; ok {
		return t
	}
	return "Status " + strconv.Itoa(status)
}

// httpTime is a time as HTTP writes it (RFC 9110, 5.6.7).
func httpTime(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") }

// publicAddress is where the attacker believes that its machine is.
func publicAddress(p Pot) netip.Addr { return p.Target.Addr() }
