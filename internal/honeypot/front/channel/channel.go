// Package channel opens SSH channels on connections that may end at any moment.
package channel

import (
	"errors"

	"golang.org/x/crypto/ssh"
)

// ErrEnded says that the connection has ended.
var ErrEnded = errors.New("the connection has ended")

// Conn is what channels are opened on; an [ssh.Conn] is one.
type Conn interface {
	OpenChannel(name string, data []byte) (ssh.Channel, <-chan *ssh.Request, error)
	Wait() error
}

// Opener opens channels on one connection. The library forgets a channel that is opened in the microseconds
// in which its connection ends, and would wait for it for ever; an Opener does not.
type Opener struct {
	conn  Conn
	ended chan struct{}
}

// New returns the opener of a connection; what it starts ends with the connection.
func New(conn Conn) *Opener {
	o := &Opener{conn: conn, ended: make(chan struct{})}
	go func() {
		defer close(o.ended)
		_ = conn.Wait()
	}()
	return o
}

// Open opens a channel. The error is the other side's ([ssh.OpenChannelError]), the connection's, or ErrEnded.
func (o *Opener) Open(name string, data []byte) (ssh.Channel, <-chan *ssh.Request, error) { //nolint:ireturn // the library has channels as interfaces only
	type opened struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	answer := make(chan opened, 1)
	go func() { // what waits for ever, where it happens, is this goroutine, and nobody with it
		ch, reqs, err := o.conn.OpenChannel(name, data)
		answer <- opened{ch, reqs, err}
	}()
	select {
	case a := <-answer:
		return a.ch, a.reqs, a.err
	case <-o.ended:
		return nil, nil, ErrEnded
	}
}
