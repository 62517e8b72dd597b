package telnet_test

import (
	"context"
	"testing"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/telnet"
)

func BenchmarkIdle(b *testing.B) {
	stay := fronttest.Pot(b, fronttest.Echo)
	s := fronttest.New(b, event.Telnet, telnet.New(front.Guard{
		Reach:  front.Reach{Enter: func(context.Context, event.PotKey) (front.Stay, error) { return stay, nil }},
		Policy: fronttest.Policy(b, event.Telnet), Hash: fronttest.Hash,
	}))
	fronttest.Idle(b, s, "\xff\xfd\x03")
}
