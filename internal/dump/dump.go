// Package dump asks the kernel for lists that may change while they are read.
package dump

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// tries is how often a list is asked for that changes each time.
const tries = 5

// Ask returns a list of the kernel's, whole: one that changed while it was read is asked for again. The error is list's own;
// where that is [netlink.ErrDumpInterrupted] the list changes all the time.
func Ask[T any](list func() (T, error)) (out T, err error) {
	for range tries {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return out, err
}
