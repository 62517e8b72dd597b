package ssh

import (
	"net"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/hello"
)

const maxName = 64 // bytes of a name; RFC 4251, 6

// wire is a connection that ends when it is silent for too long, and whose first bytes are looked at.
type wire struct {
	net.Conn
	ear  *hello.Ear
	idle time.Duration

	mu      sync.Mutex
	settled bool
}

// settle begins to end the connection when it is silent for too long.
func (w *wire) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled = true
	w.touch()
}

func (w *wire) touch() {
	if w.settled {
		_ = w.SetReadDeadline(time.Now().Add(w.idle))
	}
}

// Read shows what it reads to the one who listens.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.mu.Lock()
		w.touch()
		w.mu.Unlock()
		w.ear.Hear(p[:n])
	}
	return n, err //nolint:wrapcheck // it is a connection
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if n > 0 {
		w.mu.Lock()
		w.touch()
		w.mu.Unlock()
	}
	return n, err //nolint:wrapcheck // it is a connection
}
