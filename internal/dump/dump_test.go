package dump_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/kokkuri/kokkuri/internal/dump"
)

func TestAsk(t *testing.T) {
	gone := errors.New("gone")
	for _, c := range []struct {
		name    string
		answers []error
		asked   int
		err     error
	}{
		{"whole at once", []error{nil}, 1, nil},
		{"changed twice", []error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}, 3, nil},
		{"another error", []error{netlink.ErrDumpInterrupted, gone}, 2, gone},
		{"changes all the time", []error{
			netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil,
		}, 5, netlink.ErrDumpInterrupted},
	} {
		asked := 0
		got, err := dump.Ask(func() (int, error) {
			asked++
			return asked, c.answers[asked-1]
		})
		require.ErrorIs(t, err, c.err, c.name)
		assert.Equal(t, c.asked, asked, c.name)
		assert.Equal(t, asked, got, c.name)
	}
}
