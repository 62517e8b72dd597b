package inside

import (
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Program is what one session starts in the pot: it is prepared, started once, and ends.
type Program struct {
	ch   ssh.Channel
	done chan struct{}
	exit event.Exit
	how  bool // it said how it ended
}

// Program opens a session in the pot.
func (c *Client) Program() (*Program, error) {
	ch, reqs, err := c.open("session", nil)
	if err != nil {
		return nil, fmt.Errorf("open a session in the pot: %w", err)
	}
	p := &Program{ch: ch, done: make(chan struct{})}
	go p.follow(reqs) // ends with the channel
	return p, nil
}

// follow hears how the program ends (RFC 4254, 6.10).
func (p *Program) follow(reqs <-chan *ssh.Request) {
	defer close(p.done)
	for req := range reqs {
		switch req.Type {
		case "exit-status":
			var m struct{ Status uint32 }
			if ssh.Unmarshal(req.Payload, &m) == nil {
				p.exit, p.how = event.Exit{Status: int(m.Status)}, true
			}
		case "exit-signal":
			var m struct {
				Signal        string
				Core          bool
				Message, Lang string
			}
			if ssh.Unmarshal(req.Payload, &m) == nil {
				p.exit, p.how = event.Exit{Signal: m.Signal, Core: m.Core}, true
			}
		}
		if req.WantReply {
			_ = req.Reply(false, nil)
		}
	}
}

// Ask passes a request of the session on and returns the pot's answer.
func (p *Program) Ask(name string, wantReply bool, payload []byte) bool {
	ok, err := p.ch.SendRequest(name, wantReply, payload)
	return ok && err == nil
}

// Read reads its standard output.
func (p *Program) Read(b []byte) (int, error) { return p.ch.Read(b) } //nolint:wrapcheck // io.EOF is no wrapped error

// Write writes to its standard input.
func (p *Program) Write(b []byte) (int, error) { return p.ch.Write(b) } //nolint:wrapcheck // as Read

// Stderr is its standard error.
func (p *Program) Stderr() io.Reader { return p.ch.Stderr() }

// CloseWrite ends its standard input.
func (p *Program) CloseWrite() error { return p.ch.CloseWrite() } //nolint:wrapcheck // only looked at

// Wait returns how it ended; ok is false where it did not say.
func (p *Program) Wait() (exit event.Exit, ok bool) {
	<-p.done
	return p.exit, p.how
}

// Close ends the session; what it started gets a hang-up.
func (p *Program) Close() error { return p.ch.Close() } //nolint:wrapcheck // only looked at
