// Package fetch is the only way out that there is for pots: a proxy in the machine's own network that gets by HTTP what
// one asks for, within narrow bounds. It is reached over one descriptor, by no network.
package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
)

const (
	defaultMaxSize      = 10 << 20
	defaultPerMinute    = 5
	defaultAllPerMinute = 30
	atOnce              = 4
	window              = time.Minute

	wholeTime   = 30 * time.Second
	connectTime = 5 * time.Second
	headTime    = 10 * time.Second
	maxHead     = 64 << 10
	maxAddrs    = 4
	maxValue    = 1024
)

// ErrRefused says that something is not fetched, whoever asks: nothing was sent anywhere.
var ErrRefused = errors.New("refused")

// Request is what to fetch.
type Request struct {
	ID       uint64         `json:"id"`
	Attacker event.Attacker `json:"attacker"`
	Method   string         `json:"method"`
	Secure   bool           `json:"secure"`
	Name     string         `json:"name,omitempty"` // of the host; empty: Addr itself
	Addr     netip.Addr     `json:"addr,omitzero"`
	Port     uint16         `json:"port"`
	Target   string         `json:"target"`
	Agent    string         `json:"agent,omitempty"`
}

// Header is a field of an answer's head.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Reply is what came. The body comes as a file of its own.
type Reply struct {
	ID        uint64   `json:"id"`
	Status    int      `json:"status,omitempty"`
	Headers   []Header `json:"headers,omitempty"`
	Size      int64    `json:"size,omitempty"`
	Truncated bool     `json:"truncated,omitempty"` // it was larger
	Refused   bool     `json:"refused,omitempty"`   // nothing was sent
	Error     string   `json:"error,omitempty"`
}

// Options configure a Proxy.
type Options struct {
	Policy       Policy
	Dir          string // on whose file system bodies lie while they are passed on
	MaxSize      int64  // bytes of one body; 10 MiB where 0
	PerMinute    int    // of one attacker; 5 where 0
	AllPerMinute int    // of all; 30 where 0
	// Resolve finds a name's addresses; the machine's own resolver where nil.
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)
	NetNS   *netns.NS // to connect from; nil for the process's own
	Log     *slog.Logger
}

// Proxy fetches. Its methods may be called concurrently.
type Proxy struct {
	o     Options
	slots chan struct{}

	mu   sync.Mutex
	took map[event.Attacker][]time.Time // within the last minute
	all  []time.Time
}

// New returns a Proxy; Serve has it answer.
func New(o Options) *Proxy {
	if o.MaxSize == 0 {
		o.MaxSize = defaultMaxSize
	}
	if o.PerMinute == 0 {
		o.PerMinute = defaultPerMinute
	}
	if o.AllPerMinute == 0 {
		o.AllPerMinute = defaultAllPerMinute
	}
	if o.Resolve == nil {
		o.Resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", name+".")
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Proxy{o: o, slots: make(chan struct{}, atOnce), took: make(map[event.Attacker][]time.Time)}
}

// fetch answers one request; the file, which may be nil, is the caller's.
func (p *Proxy) fetch(ctx context.Context, r Request) (Reply, *os.File) {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	reply, body, err := p.get(ctx, r)
	reply.ID = r.ID
	if err != nil {
		reply.Error, reply.Refused = err.Error(), errors.Is(err, ErrRefused)
	}
	return reply, body
}

func (p *Proxy) get(ctx context.Context, r Request) (Reply, *os.File, error) {
	if err := checkRequest(r); err != nil {
		return Reply{}, nil, err
	}
	if err := p.spend(r.Attacker, time.Now()); err != nil {
		return Reply{}, nil, err
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return Reply{}, nil, fmt.Errorf("%w: too much is being fetched", ErrRefused)
	}
	addrs, err := p.addresses(ctx, r)
	if err != nil {
		return Reply{}, nil, err
	}
	p.o.Log.InfoContext(ctx, "fetching for an attacker", "attacker", r.Attacker, "host", r.host(), "address", addrs[0], "target", r.Target)
	client := p.client(addrs, r.Port)
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, r.Method, r.url().String(), http.NoBody)
	if err != nil {
		return Reply{}, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	req.Header.Set("User-Agent", agent(r.Agent))
	req.Header.Set("Accept", "*/*")
	res, err := client.Do(req)
	if err != nil {
		return Reply{}, nil, fmt.Errorf("fetch: %w", err)
	}
	defer res.Body.Close() //nolint:errcheck // read as far as it goes
	reply := Reply{Status: res.StatusCode, Headers: headers(res.Header)}
	body, err := p.keep(res.Body, &reply)
	if err != nil {
		return Reply{}, nil, err
	}
	return reply, body, nil
}

// spend counts a request, or says that there were too many.
func (p *Proxy) spend(a event.Attacker, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = recent(p.all, now)
	for k, times := range p.took {
		if p.took[k] = recent(times, now); len(p.took[k]) == 0 {
			delete(p.took, k)
		}
	}
	if len(p.took[a]) >= p.o.PerMinute {
		return fmt.Errorf("%w: the attacker had %d fetched within a minute", ErrRefused, p.o.PerMinute)
	}
	if len(p.all) >= p.o.AllPerMinute {
		return fmt.Errorf("%w: %d were fetched for all attackers within a minute", ErrRefused, p.o.AllPerMinute)
	}
	p.took[a], p.all = append(p.took[a], now), append(p.all, now)
	return nil
}

func recent(times []time.Time, now time.Time) []time.Time {
	for len(times) > 0 && now.Sub(times[0]) >= window {
		times = times[1:]
	}
	return times
}

// addresses finds where a request goes. All that a name has must be permitted: who points one of them inwards means no good.
func (p *Proxy) addresses(ctx context.Context, r Request) ([]netip.Addr, error) {
	addrs := []netip.Addr{r.Addr}
	if r.Name != "" {
		found, err := p.o.Resolve(ctx, r.Name)
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", r.Name, err)
		}
		addrs = nil
		for _, a := range found {
			addrs = append(addrs, a.Unmap())
		}
	}
	for _, a := range addrs {
		if err := p.o.Policy.Check(a); err != nil {
			return nil, err
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("look up %s: it has no address", r.Name)
	}
	return addrs[:min(len(addrs), maxAddrs)], nil
}

// client connects to those addresses only, whatever a URL says, and follows nothing: a redirect is the pot's to
// follow, and its next request is looked at as this one was.
func (p *Proxy) client(addrs []netip.Addr, port uint16) *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true, DisableCompression: true, ResponseHeaderTimeout: headTime, MaxResponseHeaderBytes: maxHead,
			TLSHandshakeTimeout: connectTime,
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // nobody trusts what comes; it is kept as evidence
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var errs []error
				for _, a := range addrs {
					if err := p.o.Policy.Check(a); err != nil { // ours may have become more
						return nil, err
					}
					dialing, cancel := context.WithTimeout(ctx, connectTime)
					c, err := p.o.NetNS.DialTCP(dialing, netip.AddrPortFrom(a, port))
					cancel()
					if err == nil {
						return c, nil
					}
					errs = append(errs, err)
				}
				return nil, errors.Join(errs...)
			},
		},
	}
}

func (r Request) host() string {
	if r.Name != "" {
		return r.Name
	}
	return r.Addr.String()
}

func (r Request) url() *url.URL {
	u := &url.URL{Scheme: "http", Host: r.host()}
	usual := uint16(80)
	if r.Secure {
		u.Scheme, usual = "https", 443
	}
	if r.Name == "" && r.Addr.Is6() {
		u.Host = "[" + u.Host + "]"
	}
	if r.Port != usual {
		u.Host += ":" + strconv.Itoa(int(r.Port))
	}
	if target, err := url.ParseRequestURI(r.Target); err == nil {
		u.Path, u.RawQuery = target.Path, target.RawQuery
	}
	return u
}

// headers are those that matter to who downloads.
func headers(h http.Header) []Header {
	var out []Header
	for _, name := range []string{"Server", "Content-Type", "Content-Encoding", "Content-Disposition", "Last-Modified", "Etag", "Location"} {
		if v := h.Get(name); v != "" && len(v) <= maxValue {
			out = append(out, Header{Name: name, Value: v})
		}
	}
	return out
}

// keep puts a body into a file that has no name.
func (p *Proxy) keep(body io.Reader, reply *Reply) (*os.File, error) {
	fd, err := unix.Open(p.o.Dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make room for what is fetched: %w", err)
	}
	f := os.NewFile(uintptr(fd), "fetched")
	n, err := io.Copy(f, io.LimitReader(body, p.o.MaxSize))
	if err == nil && n == p.o.MaxSize {
		var one [1]byte
		more, _ := io.ReadFull(body, one[:])
		reply.Truncated = more > 0
	}
	if err != nil && n == 0 {
		_ = f.Close()
		return nil, fmt.Errorf("fetch: %w", err)
	}
	reply.Size, reply.Truncated = n, reply.Truncated || err != nil
	return f, nil
}
