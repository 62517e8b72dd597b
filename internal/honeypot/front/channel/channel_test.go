package channel_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/channel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// forgetful is a connection that has ended and forgets what is opened on it, as the library's does.
type forgetful struct{ forgotten, ended chan struct{} }

func (f forgetful) OpenChannel(string, []byte) (ssh.Channel, <-chan *ssh.Request, error) { //nolint:ireturn // as the library has it
	<-f.forgotten
	return nil, nil, net.ErrClosed
}

func (f forgetful) Wait() error {
	<-f.ended
	return net.ErrClosed
}

func TestNobodyWaitsForWhatWasForgotten(t *testing.T) {
	f := forgetful{forgotten: make(chan struct{}), ended: make(chan struct{})}
	o := channel.New(f)
	close(f.ended)
	_, _, err := o.Open("session", nil)
	require.ErrorIs(t, err, channel.ErrEnded)
	close(f.forgotten) // lets the goroutine go that the library would keep
}

func TestTellsWhatTheConnectionSays(t *testing.T) {
	f := forgetful{forgotten: make(chan struct{}), ended: make(chan struct{})}
	close(f.forgotten)
	o := channel.New(f)
	defer close(f.ended)
	_, _, err := o.Open("session", nil)
	assert.ErrorIs(t, err, net.ErrClosed)
}
