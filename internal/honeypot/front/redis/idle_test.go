package redis_test

import (
	"context"
	"testing"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/redis"
)

func BenchmarkIdle(b *testing.B) {
	stay := fronttest.Pot(b, fronttest.Echo)
	s := fronttest.New(b, event.Redis, redis.New(front.Guard{
		Reach:  front.Reach{Enter: func(context.Context, event.PotKey) (front.Stay, error) { return stay, nil }},
		Policy: fronttest.Policy(b, event.Redis), Hash: fronttest.Hash,
	}))
	fronttest.Idle(b, s, "PING\r\n")
}
