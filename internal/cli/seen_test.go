package cli

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

func TestDescribeSeen(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]event.Evidence{
		`sh -c "a b" (/usr/bin/dash, pid 7, uid 0, status 3 after 1.5ms)`: {Execution: &event.Execution{
			PID: 7, Path: "/usr/bin/dash", Args: []event.Bytes{"sh", "-c", "a b"}, Exit: &event.Exit{Status: 3}, Lasted: 1500 * time.Microsecond,
		}},
		"[m] … (/memfd:m, pid 1, uid 2, deleted, or only in memory), 2 B, sha256 abcdefabcdef…, cut short": {Execution: &event.Execution{
			PID: 1, UID: 2, Path: "/memfd:m", Args: []event.Bytes{"[m]"}, Unnamed: true, Truncated: true,
			File: &event.Content{SHA256: "abcdefabcdefabcdef", Size: 2, Truncated: true},
		}},
		"/bin/x (pid 4): signal KILL after 2s":                       {Ending: &event.Ending{PID: 4, Path: "/bin/x", Exit: &event.Exit{Signal: "KILL"}, Lasted: 2 * time.Second}},
		"to 192.0.2.1:80 (pid 3, uid 0)":                             {Connection: &event.Connection{What: "connect", PID: 3, Address: netip.MustParseAddrPort("192.0.2.1:80")}},
		"listens on port 4444 (pid 3, uid 0)":                        {Connection: &event.Connection{What: "listen", PID: 3, Address: netip.MustParseAddrPort("0.0.0.0:4444")}},
		"/tmp/x, 3 times, deleted since, 9 B, not kept":              {Write: &event.Write{Path: "/tmp/x", Times: 3, Gone: true, File: &event.Content{Size: 9, Truncated: true}}},
		"added /tmp/l → /etc/shadow (link, 0777, 0:0)":               {Change: &event.Difference{What: "added", Path: "/tmp/l", Target: "/etc/shadow", Type: "link", Mode: 0o777}},
		"1 programs, 0 connections, 2 writes, 3 calls out: too much": {Missed: &event.Missed{Executions: 1, Writes: 2, Calls: 3}, Reason: "too much"},
		"2 changes, content of 1 file kept (5 B), cut short: x":      {Archive: &event.Archive{Changes: 2, Files: 1, Bytes: 5, Truncated: "x"}},
	} {
		require.Equal(t, want, describeSeen(e))
	}
}
