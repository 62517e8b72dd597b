package postgres_test

import (
	"context"
	"testing"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/postgres"
)

func BenchmarkIdle(b *testing.B) {
	stay := fronttest.Pot(b, fronttest.Echo)
	s := fronttest.New(b, event.Postgres, postgres.New(front.Guard{
		Reach:  front.Reach{Enter: func(context.Context, event.PotKey) (front.Stay, error) { return stay, nil }},
		Policy: fronttest.Policy(b, event.Postgres), Hash: fronttest.Hash,
	}))
	fronttest.Idle(b, s, "\x00\x00\x00\x08\x00\x03\x00\x00")
}
