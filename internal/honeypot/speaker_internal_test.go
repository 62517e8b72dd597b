package honeypot

import (
	"context"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// goneStay is a pot that has ended, and whose number another program has: this one.
type goneStay struct{}

func (goneStay) Pot() event.Pot                                 { return event.Pot{ID: "0123456789ab"} }
func (goneStay) Login(event.Service) (account, password string) { return "", "" }
func (goneStay) PID() int                                       { return os.Getpid() }
func (goneStay) Close()                                         {}
func (goneStay) Dial(context.Context, event.Service) (net.Conn, error) {
	return nil, engine.ErrGone
}

// The door's sshd must never enter the machine's own network.
func TestTheNetworkOfAPotThatIsGone(t *testing.T) {
	f, err := networkOf(goneStay{})
	require.ErrorIs(t, err, engine.ErrGone)
	require.Nil(t, f)
}
