package collect

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/kokkuri/kokkuri/internal/native"
)

// folding is how long Redis counts what happens again into the same entry (ACL_LOG_GROUPING_MAX_TIME_DELTA).
const folding = time.Minute

// usualLength is Redis's own acllog-max-len.
const usualLength = 128

// aclLog is what a server answered: its newest entries, those that changed last first.
type aclLog struct {
	at       time.Time     // by the server's clock
	blur     time.Duration // how much times that follow from ages may differ
	entries  []native.ACLEntry
	hasID    bool
	complete bool // there are no others
}

// aclPosition is what was seen of a server's log.
type aclPosition struct {
	Run     string    `json:"run"`     // of the server; empty where it does not tell
	At      time.Time `json:"at"`      // when it was read
	Entries []aclSeen `json:"entries"` // as the log has them: what changed last is first
}

// aclSeen is an entry as it was seen last.
type aclSeen struct {
	Key     string `json:"key"` // hash of what Redis folds by
	ID      uint64 `json:"id,omitempty"`
	Created int64  `json:"created,omitempty"` // milliseconds; with ID, unique over restarts of the server
	Count   uint64 `json:"count"`
	Last    int64  `json:"last"` // milliseconds
}

// aclNews is what is new in a log.
type aclNews struct {
	counts   []uint64 // by entry: how many times more than was seen
	changed  bool
	overflow bool   // some were never seen
	lost     uint64 // how many, where the server tells
	next     aclPosition
}

func seen(e native.ACLEntry, at time.Time) aclSeen {
	sum := sha256.New()
	for _, part := range []string{e.Reason, e.Context, e.Object, e.Username} {
		sum.Write([]byte(part))
		sum.Write([]byte{0})
	}
	s := aclSeen{Key: hex.EncodeToString(sum.Sum(nil)[:12]), Count: e.Count, Last: e.Last(at).UnixMilli()}
	if e.HasID {
		s.ID, s.Created = e.ID, e.Created.UnixMilli()
	}
	return s
}

// same reports whether an entry is one that was seen, and did not change since.
func (s aclSeen) same(e aclSeen, hasID bool, blur time.Duration) bool {
	if hasID {
		return s.ID == e.ID && s.Created == e.Created && s.Count == e.Count
	}
	return s.Key == e.Key && s.Count == e.Count && time.Duration(max(s.Last-e.Last, e.Last-s.Last))*time.Millisecond <= blur
}

// has reports whether an entry was seen as it is now: then nothing behind it changed either.
func (p aclPosition) has(log aclLog, i int) bool {
	if i < 0 {
		return true
	}
	e := seen(log.entries[i], log.at)
	for _, s := range p.Entries {
		if s.same(e, log.hasID, log.blur) {
			return true
		}
	}
	return false
}

// enough reports whether the first entries of a log tell all that is new. Without numbers they do so only where nothing is:
// an entry that grew looks like one that was made anew while the old one sank.
func (p aclPosition) enough(log aclLog) bool {
	switch {
	case log.complete:
		return true
	case log.hasID:
		return p.has(log, len(log.entries)-1)
	}
	return p.has(log, 0)
}

// compare finds what is new in a log; longest is how many entries the server keeps, 0 where it does not tell.
//
// Redis 7.2 and later number their entries. Before, an entry is known by what Redis folds by and by when it happened last:
// one that is not there as it was is either another, or the newest of its kind grown.
func (p aclPosition) compare(log aclLog, longest int) aclNews {
	n := aclNews{counts: make([]uint64, len(log.entries))}
	n.next = aclPosition{Run: p.Run, At: log.at}
	now := make([]aclSeen, len(log.entries))
	was := make([]int, len(log.entries)) // index into p.Entries; -1: new
	taken := make([]bool, len(p.Entries))
	for i, e := range log.entries {
		now[i], was[i] = seen(e, log.at), -1
		for j, s := range p.Entries {
			if !taken[j] && s.same(now[i], log.hasID, log.blur) {
				was[i], taken[j] = j, true
				break
			}
		}
	}
	matched := 0
	for i := range now {
		if was[i] < 0 && (!log.complete || !p.wasReset(log, taken, now, longest)) {
			was[i] = p.grown(now, i, taken, log)
		}
		if was[i] >= 0 {
			taken[was[i]] = true
			matched++
			n.counts[i] = now[i].Count - p.Entries[was[i]].Count
		} else {
			n.counts[i] = now[i].Count
		}
		n.changed = n.changed || n.counts[i] > 0
	}
	n.next.Entries = now
	if !log.complete { // what stands behind is as it was
		for j, s := range p.Entries {
			if !taken[j] && len(n.next.Entries) < redisAll {
				n.next.Entries = append(n.next.Entries, s)
			}
		}
	}
	if longest <= 0 {
		longest = usualLength
	}
	if len(p.Entries) > 0 && matched == 0 && len(log.entries) >= longest {
		n.overflow, n.lost = true, p.missing(log, now)
	}
	return n
}

// grown finds what entry i was before it grew: an entry of the same number; without numbers, the newest of its kind, if
// it is the oldest of its kind that is not accounted for.
func (p aclPosition) grown(now []aclSeen, i int, taken []bool, log aclLog) int {
	for j, s := range p.Entries {
		switch {
		case log.hasID:
			if s.ID == now[i].ID && s.Created == now[i].Created && s.Count < now[i].Count {
				return j
			}
			continue
		case s.Key != now[i].Key:
			continue
		case taken[j]:
			return -1 // the newest of its kind is there as it was, so this is another
		case s.Count >= now[i].Count || s.Last > now[i].Last:
			return -1
		case time.Duration(now[i].Last-s.Last)*time.Millisecond > folding+log.at.Sub(p.At):
			return -1 // too late to be folded
		}
		for _, behind := range now[i+1:] {
			if behind.Key == s.Key && !p.hasSeen(behind, log) {
				return -1 // it is the one that grew
			}
		}
		return j
	}
	return -1
}

func (p aclPosition) hasSeen(e aclSeen, log aclLog) bool {
	for _, s := range p.Entries {
		if s.same(e, log.hasID, log.blur) {
			return true
		}
	}
	return false
}

// wasReset reports whether entries are missing that only ACL LOG RESET removes, since the log is not full.
func (p aclPosition) wasReset(log aclLog, taken []bool, now []aclSeen, longest int) bool {
	if log.hasID {
		return false // numbers tell
	}
	if longest <= 0 {
		longest = usualLength
	}
	if len(now) >= longest || len(p.Entries) == 0 {
		return false
	}
	kinds := map[string]int{} // of what is not there as it was, and so must have grown
	for j, s := range p.Entries {
		if !taken[j] {
			kinds[s.Key]++
		}
	}
	grew := map[string]bool{}
	for _, e := range now {
		if !grew[e.Key] && !p.hasSeen(e, log) {
			grew[e.Key] = true // only the newest of a kind grows
			kinds[e.Key]--
		}
	}
	for _, n := range kinds {
		if n > 0 {
			return true
		}
	}
	return false
}

// missing is how many entries were never seen, by their numbers.
func (p aclPosition) missing(log aclLog, now []aclSeen) uint64 {
	if !log.hasID {
		return 0
	}
	last, oldest := uint64(0), now[0].ID
	for _, s := range p.Entries {
		last = max(last, s.ID)
	}
	for _, e := range now {
		oldest = min(oldest, e.ID)
	}
	if oldest > last+1 {
		return oldest - last - 1
	}
	return 0
}
