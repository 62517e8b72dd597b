package fronttest_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRawConforms(t *testing.T) {
	fronttest.Conform(t, fronttest.Front{
		Service: event.MySQL, Says: "\x00\x01anything",
		Open: func(r front.Reach, idle time.Duration) front.Handler { return front.Raw{Reach: r, Idle: idle} },
	})
}
