package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	turnFile = "kokkuri-images.lock"
	turnPoll = 100 * time.Millisecond
)

// takeTurn waits until no other process on the machine makes an image: each would make the same one, and a base that is
// made twice has all that is built on it built again. Where files can't be locked nobody waits.
func takeTurn(ctx context.Context) (done func(), err error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), turnFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return func() {}, nil
	}
	poll := time.NewTicker(turnPoll)
	defer poll.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return func() { _ = f.Close() }, nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("wait until another process has made its image: %w", ctx.Err())
		}
	}
}
