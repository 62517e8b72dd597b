package collect

import (
	"fmt"
	"sync/atomic"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/tail"
	"github.com/kokkuri/kokkuri/internal/trouble"
)

// Names of what a collector counts.
const (
	countCutLines   = "lines_cut"        // lines and records that were longer than what is sent
	countCutBytes   = "bytes_cut"        // left out of them
	countSplit      = "records_split"    // sent before they were whole, for they did not end
	countLeftOut    = "entries_left_out" // of the journal: overlong, or not understood
	countGaps       = "journal_gaps"     // times that entries were vacuumed unread
	countLostFiles  = "files_lost"       // gone before they were read to their end
	countPartials   = "lines_torn"       // without an end, cut off by a truncation
	countUnfollowed = "hosts_unfollowed" // files beyond the limit of a pattern
	countLostACL    = "redis_lost"       // entries of ACL LOGs
)

// losses are what all roads of a collector left out.
type losses struct {
	cutLines, cutBytes, split, leftOut, gaps, redis atomic.Int64
}

// cut notes a line of which n bytes were left out.
func (l *losses) cut(n int) {
	if n > 0 {
		l.cutLines.Add(1)
		l.cutBytes.Add(int64(n))
	}
}

// Counts are what was left out since the start, by name; what did not happen is absent.
func (c *Collector) Counts() map[string]int64 {
	files := c.files()
	out := map[string]int64{
		countCutLines: files.CutLines + c.lost.cutLines.Load(), countCutBytes: files.CutBytes + c.lost.cutBytes.Load(),
		countSplit: c.lost.split.Load(), countLeftOut: c.lost.leftOut.Load(), countGaps: c.lost.gaps.Load(),
		countLostFiles: files.LostFiles, countPartials: files.Partials, countUnfollowed: files.DroppedHost, countLostACL: c.lost.redis.Load(),
	}
	for name, n := range out {
		if n == 0 {
			delete(out, name)
		}
	}
	return out
}

// files sums up what was counted of all files that are followed, also those that are no syslog.
func (c *Collector) files() tail.Stats {
	out := c.Stats()
	for _, r := range c.roads {
		if f, ok := r.(interface{ stats() tail.Stats }); ok {
			out.Add(f.stats())
		}
	}
	return out
}

// cutFinding says what of the lines does not arrive; the other losses have findings of their own.
func (c *Collector) cutFinding() []event.Finding {
	n := c.Counts()
	if n[countCutLines]+n[countSplit] == 0 {
		return nil
	}
	return []event.Finding{{
		Level: trouble.Warning, Subject: "logs",
		Text: fmt.Sprintf("since the agent started %d overlong lines were cut (%d bytes of them) and %d records that did not end were sent in parts: what the rest says is not evaluated",
			n[countCutLines], n[countCutBytes], n[countSplit]),
		Mend: "somebody may try to hide in them: see what writes lines longer than 16 KiB",
	}}
}
