package intake

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// sender takes batches at once and acknowledges them when it is let.
type sender struct {
	*stream
	ack  chan struct{} // takes a value for each acknowledgement; closed: all
	err  error         // of Send
	mu   sync.Mutex
	most int // batches that waited at once
	now  int
}

func (s *sender) send(b event.Batch) (func(context.Context) error, error) {
	if s.err != nil {
		return nil, s.err
	}
	if err := s.publish(context.Background(), b); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now++
	s.most = max(s.most, s.now)
	return func(ctx context.Context) error {
		select {
		case <-s.ack:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
		return nil
	}, nil
}

func (s *sender) under() (now, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.most
}

func manyLines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "<38>%s %d\n", line, i)
	}
	return b.String()
}

// TestBatchesAreUnderWayTogether: reading goes on while batches wait for the bus, but no further than so many; all come in order.
func TestBatchesAreUnderWayTogether(t *testing.T) {
	t.Parallel()
	s := &sender{stream: newStream(), ack: make(chan struct{})}
	in, _ := launch(t, s.stream, func(o *Options) { o.Send = s.send })
	conn := dial(t, in, "")
	const want = 100_000
	go func() { _, _ = conn.Write([]byte(manyLines(want))) }()
	// One more than the window holds is being waited for.
	eventually(t, "the window is full", func() bool { now, _ := s.under(); return now == maxWindow+2 })
	assert.Zero(t, in.Stats().Lines, "nothing is acknowledged")
	close(s.ack)
	s.untilN(t, want)
	for i, l := range s.lines() {
		require.Equal(t, fmt.Sprintf("web/syslog-tcp: %s %d", line, i), l)
	}
	eventually(t, "all is acknowledged", func() bool { return in.Stats().Lines == want })
	_, most := s.under()
	assert.LessOrEqual(t, most, maxWindow+2)
	assert.Zero(t, len(in.underWay))
}

// TestAllConnectionsTogetherAreBounded: many connections have no more under way than all may have.
func TestAllConnectionsTogetherAreBounded(t *testing.T) {
	t.Parallel()
	s := &sender{stream: newStream(), ack: make(chan struct{})}
	in, _ := launch(t, s.stream, func(o *Options) { o.Send = s.send })
	const connections = 20
	text := []byte(manyLines(20_000))
	for range connections {
		conn := dial(t, in, "")
		go func() { _, _ = conn.Write(text) }()
	}
	eventually(t, "no more", func() bool { now, _ := s.under(); return now == maxUnderWay })
	close(s.ack)
	s.untilN(t, connections*20_000)
	_, most := s.under()
	assert.Equal(t, maxUnderWay, most)
}

func TestWhatIsNotAcknowledgedAtTheStopIsCounted(t *testing.T) {
	t.Parallel()
	s := &sender{stream: newStream(), ack: make(chan struct{})}
	in, stop := launch(t, s.stream, func(o *Options) { o.Send = s.send })
	conn := dial(t, in, "")
	send(t, conn, manyLines(3))
	s.untilN(t, 3)
	stop()
	assert.EqualValues(t, 3, in.Stats().LostAtStop)
	assert.Zero(t, in.Stats().Lines)
}

func TestWhatCanNotBeSentIsPublished(t *testing.T) {
	t.Parallel()
	s := &sender{stream: newStream(), err: errDown}
	in, _ := launch(t, s.stream, func(o *Options) { o.Send = s.send })
	conn := dial(t, in, "")
	send(t, conn, manyLines(3))
	s.untilN(t, 3)
	assert.Zero(t, len(in.underWay))
}
