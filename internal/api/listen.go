package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Server serves the API on a socket of the machine, for root and the socket's group.
type Server struct {
	http *http.Server
	l    net.Listener
}

// Listen opens the socket. One that an earlier process left is replaced; one that somebody answers on is an error.
func Listen(ctx context.Context, socket string, b Backend, log *slog.Logger) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil { //nolint:gosec // the socket itself is private
		return nil, fmt.Errorf("open %s: %w", socket, err)
	}
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", socket); err == nil {
		_ = c.Close()
		return nil, &Error{Message: "a server answers on " + socket + " already", Hint: "stop it first, or set another socket (socket, KOKKURI_SOCKET, --socket)"}
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("replace %s: %w", socket, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", socket, err)
	}
	if err := os.Chmod(socket, 0o660); err != nil { //nolint:gosec // for an operators' group
		return nil, errors.Join(fmt.Errorf("open %s: %w", socket, err), l.Close())
	}
	h := newHandler(b, log)
	s := &Server{l: l, http: &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	s.http.RegisterOnShutdown(sync.OnceFunc(func() { close(h.closing) }))
	return s, nil
}

// Run serves until ctx ends; then it lets what is being answered finish for a moment.
func (s *Server) Run(ctx context.Context) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		graceful, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := s.http.Shutdown(graceful); err != nil {
			_ = s.http.Close()
		}
	})
	if err := s.http.Serve(s.l); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve the commands: %w", err)
	}
	<-stopped
	return nil
}
