package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/kokkuri/kokkuri/internal/agent/divert"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// LocalStatus is what `kokkuri-agent status` shows.
type LocalStatus struct {
	Running   bool             `json:"running"`
	Host      string           `json:"host,omitempty"`
	Version   string           `json:"version,omitempty"`
	Connected bool             `json:"connected"`
	Redirects []event.Redirect `json:"redirects"`
	Findings  []event.Finding  `json:"findings"`
}

// listen opens the socket on which a running agent answers the commands of its own host.
func (a *Agent) listen(ctx context.Context) (serve func(context.Context) error, err error) {
	path := SocketPath(a.opts.Config)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the socket itself is 0600
		return nil, fmt.Errorf("socket for commands: %w", err)
	}
	if _, err := query(ctx, path, http.MethodGet, "/status"); err == nil {
		return nil, fmt.Errorf("another agent answers on %s: stop it first", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("socket for commands: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket for commands: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("socket for commands: %w", err)
	}
	srv := &http.Server{Handler: a.commands(), ReadHeaderTimeout: 5 * time.Second}
	return func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
		defer stop()
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("answer commands on %s: %w", path, err)
		}
		return nil
	}, nil
}

func (a *Agent) commands() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		want, _ := a.sync.desired.wanted(time.Now())
		d := a.describe()
		reply(w, LocalStatus{
			Running: true, Host: a.name, Version: a.opts.Version, Connected: a.conn.Connected(),
			Redirects: append([]event.Redirect{}, want.Redirects...), Findings: append([]event.Finding{}, d.Findings...),
		})
	})
	mux.HandleFunc("POST /release", func(w http.ResponseWriter, r *http.Request) {
		if err := a.sync.releaseAll(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		a.askAnew() // and so the server hears of it
		reply(w, struct{}{})
	})
	return mux
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error means that the asker is gone
}

// Status asks the agent that runs on this host; where none runs it tells what one would start with.
func Status(ctx context.Context, c config.Agent) (LocalStatus, error) {
	if s, err := query(ctx, SocketPath(c), http.MethodGet, "/status"); err == nil {
		return s, nil
	}
	d, err := loadDesired(Dir(c))
	if err != nil {
		return LocalStatus{}, err
	}
	want, _ := d.wanted(time.Now())
	return LocalStatus{Redirects: append([]event.Redirect{}, want.Redirects...), Findings: append([]event.Finding{}, look(ctx, c)...)}, nil
}

// ReleaseAll takes every redirect out of this host's kernel and keeps it out, whether or not the
// agent runs and the server lives.
func ReleaseAll(ctx context.Context, c config.Agent) error {
	asked, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := query(asked, SocketPath(c), http.MethodPost, "/release"); errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the agent on this host runs but does not answer, and would put its redirects back: kill it, then run this again: %w", err)
	} else if err != nil {
		if err := os.MkdirAll(Dir(c), 0o700); err != nil {
			return fmt.Errorf("release: %w", err)
		}
		d, err := loadDesired(Dir(c))
		if err != nil {
			d = &desired{dir: Dir(c)} // damaged state must not keep anyone from releasing
		}
		if err := d.release(time.Now()); err != nil {
			return fmt.Errorf("release: %w", err)
		}
	}
	if err := divert.Release(ctx, kernelOptions(c, slog.New(slog.DiscardHandler))); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	return nil
}

func query(ctx context.Context, socket, method, path string) (LocalStatus, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, http.NoBody)
	if err != nil {
		return LocalStatus{}, fmt.Errorf("ask the agent: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return LocalStatus{}, fmt.Errorf("ask the agent: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	var s LocalStatus
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("ask the agent: it answers %s", resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("ask the agent: %w", err)
	}
	return s, nil
}
