package telnet_test

import (
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/telnet"
)

func TestConforms(t *testing.T) {
	fronttest.Conform(t, fronttest.Front{
		Service: event.Telnet, Says: "\xff\xfd\x03",
		Open: func(r front.Reach, idle time.Duration) front.Handler {
			return telnet.New(front.Guard{Reach: r, Idle: idle})
		},
	})
}
