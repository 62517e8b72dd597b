package sink

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/firstbytes"
)

// Want is what a pot would have fetched.
type Want struct {
	Pot    event.Pot
	Method string // GET or HEAD
	Secure bool   // by TLS
	Name   string // host name; empty: Addr is meant itself
	Addr   netip.Addr
	Port   uint16
	Target string // path and query
	Agent  string // User-Agent
	URL    string // all of it, as it is told
}

// Fetched is what came.
type Fetched struct {
	Status  int
	Headers []firstbytes.Header
	Body    *os.File // nil where there is none
	Size    int64
	Done    func() // called by Close
}

// Close forgets the body.
func (f *Fetched) Close() {
	if f.Body != nil {
		_ = f.Body.Close()
	}
	if f.Done != nil {
		f.Done()
	}
}

// copyTo sends the body to a client.
func (f *Fetched) copyTo(c *call) error {
	if f.Body == nil {
		return nil
	}
	buf := make([]byte, 32<<10)
	for at := int64(0); at < f.Size; {
		n, err := f.Body.ReadAt(buf[:min(int64(len(buf)), f.Size-at)], at)
		if n == 0 && err != nil {
			return fmt.Errorf("read what was fetched: %w", err)
		}
		if err := c.write(buf[:n]); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// Fetcher gets things from outside and keeps them.
type Fetcher interface {
	// Fetch returns an error that says why where it may not, or nothing came. Refused says that it was not tried.
	Fetch(ctx context.Context, w Want) (f *Fetched, refused bool, err error)
}

// fetch has a request answered from outside; ok is false where what is made up will do.
func (c *call) fetch(ctx context.Context, r firstbytes.Request, e *event.Egress) (a answer, ok bool) {
	if r.Method != "GET" && r.Method != "HEAD" || !strings.HasPrefix(r.Target, "/") || r.Length != 0 {
		e.How = "not fetched: only GET and HEAD without a body are"
		return a, false
	}
	w := Want{
		Pot: c.pot.Pot, Method: r.Method, Secure: c.secure, Addr: c.to.Addr(), Port: c.to.Port(), Target: r.Target,
		Agent: r.Get("User-Agent"), URL: string(e.URL),
	}
	w.Name, _ = c.s.nameOf(c.pot, c.to.Addr())
	f, refused, err := c.s.o.Fetch.Fetch(ctx, w)
	if err != nil {
		c.s.count(func(x *Counts) { x.NotFetched++ })
		e.How = "not fetched: " + err.Error()
		return answer{drop: true}, !refused
	}
	c.s.count(func(x *Counts) { x.Fetched++ })
	e.How = "fetched"
	headers := append([]firstbytes.Header{{Name: "Date", Value: httpTime(time.Now())}}, f.Headers...)
	return answer{status: f.Status, headers: headers, file: f}, true
}
