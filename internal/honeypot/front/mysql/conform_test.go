package mysql_test

import (
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/mysql"
)

// the is the front that is held against what all owe.
func the() fronttest.Front {
	return fronttest.Front{
		Service: event.MySQL, Says: "\x01\x00\x00\x00\x0e",
		Open: func(r front.Reach, idle time.Duration) front.Handler {
			return mysql.New(front.Guard{Reach: r, Idle: idle})
		},
	}
}

func TestConforms(t *testing.T) { fronttest.Conform(t, the()) }

func BenchmarkIdle(b *testing.B) { fronttest.Idle(b, the()) }
