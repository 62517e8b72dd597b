package tail

import (
	"time"

	"golang.org/x/sys/unix"
)

// coarse is how far the clock that files are dated by may be behind.
const coarse = 20 * time.Millisecond

// bornSince reports whether a file was made since a time, as far as its file system knows (statx(2)).
func bornSince(path string, at time.Time) bool {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BTIME, &st) != nil || st.Mask&unix.STATX_BTIME == 0 {
		return false
	}
	return !time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)).Before(at.Add(-coarse))
}
