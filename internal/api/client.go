package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// maxAnswer bounds what a client reads at once, in bytes.
const maxAnswer = 256 << 20

// Client asks a server. It may be used concurrently.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client for the server that answers on a socket of this machine.
func NewClient(socket string) *Client {
	var d net.Dialer
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// do sends a request; who calls closes the answer's body.
func (c *Client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var content io.Reader = http.NoBody
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("write request: %w", err)
		}
		content = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://kokkuri"+path, content)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close() //nolint:errcheck // only read from
	told := &Error{Status: response.StatusCode}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(told); err != nil || told.Message == "" {
		told.Message = "the server answers " + response.Status
	}
	return nil, told
}

// unreachable says why there is no answer, and what to do.
func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("ask the server: %w", err)
	case errors.Is(err, fs.ErrNotExist):
		return &Error{
			Message: "the server is not running here (no " + c.socket + ")",
			Hint:    "start it with `kokkuri server` or `kokkuri up`, or say with --socket where it answers",
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &Error{
			Message: "the server is not running any more (nobody answers on " + c.socket + ")",
			Hint:    "start it with `kokkuri server` or `kokkuri up`",
		}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Message: "not permitted to talk to the server (" + c.socket + ")", Hint: "run the command as root"}
	}
	return fmt.Errorf("ask the server on %s: %w", c.socket, err)
}

// call sends a request and reads the JSON answer.
func call[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	response, err := c.do(ctx, method, path, in)
	if err != nil {
		return out, err
	}
	defer response.Body.Close() //nolint:errcheck // only read from
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&out); err != nil {
		return out, fmt.Errorf("read the server's answer: %w", err)
	}
	return out, nil
}

func (f Filter) query() string {
	q := url.Values{}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.Host != "" {
		q.Set("host", f.Host)
	}
	if f.Node != "" {
		q.Set("node", f.Node)
	}
	if f.Source.IsValid() {
		q.Set("source", f.Source.String())
	}
	if f.Live {
		q.Set("live", "true")
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// List asks for the records of a path; T is the path's type.
func List[T any](ctx context.Context, c *Client, path string, f Filter) ([]T, error) {
	return call[[]T](ctx, c, http.MethodGet, path+f.query(), nil)
}

// Show asks for one record of a path.
func Show[T any](ctx context.Context, c *Client, path, id string) (T, error) {
	return call[T](ctx, c, http.MethodGet, path+"/"+url.PathEscape(id), nil)
}

// Status asks what the server is doing.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, PathStatus, nil)
}

// AddRedirects redirects a source by hand.
func (c *Client) AddRedirects(ctx context.Context, a AddRedirect) ([]event.Redirect, error) {
	in := map[string]any{"source": a.Source.String(), "service": a.Service, "host": a.Host, "all_hosts": a.AllHosts}
	if a.TTL > 0 {
		in["ttl"] = a.TTL.String()
	}
	if a.Egress != "" {
		in["egress"] = a.Egress
	}
	return call[[]event.Redirect](ctx, c, http.MethodPost, PathRedirects, in)
}

// Release ends the redirect with an id, or those of a source.
func (c *Client) Release(ctx context.Context, idOrSource string) ([]event.Redirect, error) {
	return call[[]event.Redirect](ctx, c, http.MethodDelete, PathRedirects+"/"+url.PathEscape(idOrSource), nil)
}

// Pause releases everything and redirects nothing until Resume.
func (c *Client) Pause(ctx context.Context) ([]event.Redirect, error) {
	return call[[]event.Redirect](ctx, c, http.MethodPost, PathPause, nil)
}

// Resume lets redirects be made again.
func (c *Client) Resume(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, PathResume, nil)
	return err
}

// AllowAdd puts a network on the allow-list and returns the redirects that it released.
func (c *Client) AllowAdd(ctx context.Context, p netip.Prefix, note string) ([]event.Redirect, error) {
	return call[[]event.Redirect](ctx, c, http.MethodPost, PathAllow, map[string]string{"prefix": p.String(), "note": note})
}

// AllowRemove takes a network off the allow-list.
func (c *Client) AllowRemove(ctx context.Context, p netip.Prefix) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, PathAllow+"/"+url.PathEscape(p.String()), nil)
	return err
}

// Enroll asks for a one-time token for a host or node; ttl 0 is the server's usual.
func (c *Client) Enroll(ctx context.Context, role, name string, ttl time.Duration) (Enrolment, error) {
	in := map[string]string{"role": role, "name": name}
	if ttl > 0 {
		in["ttl"] = ttl.String()
	}
	return call[Enrolment](ctx, c, http.MethodPost, PathEnroll, in)
}

// IssueSyslog has a certificate request (PEM) signed for the syslog daemon of a host or relay.
func (c *Client) IssueSyslog(ctx context.Context, name, csr string) (SyslogCertificate, error) {
	return call[SyslogCertificate](ctx, c, http.MethodPost, PathSyslog, map[string]string{"name": name, "csr": csr})
}

// Remove forgets a host (PathHosts) or node (PathNodes) and revokes its certificates.
func (c *Client) Remove(ctx context.Context, path, name string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, path+"/"+url.PathEscape(name), nil)
	return err
}

// Tail calls fn with every event and piece of evidence as it comes, until ctx ends, fn fails, or the server stops.
func (c *Client) Tail(ctx context.Context, fn func(Watched) error) error {
	response, err := c.do(ctx, http.MethodGet, PathEvents, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // only read from
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var e Watched
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("read event: %w", err)
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("read events: %w", err)
	}
	return nil
}
