package ftp_test

import (
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/ftp"
)

// the is the front that is held against what all owe.
func the() fronttest.Front {
	return fronttest.Front{
		Service: event.FTP, Says: "NOOP\r\n",
		Open: func(r front.Reach, idle time.Duration) front.Handler {
			return ftp.New(front.Guard{Reach: r, Idle: idle})
		},
	}
}

func TestConforms(t *testing.T) { fronttest.Conform(t, the()) }

func BenchmarkIdle(b *testing.B) { fronttest.Idle(b, the()) }
