package collect

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/native"
)

// aclModel is Redis's ACL LOG as its acl.c keeps it: what happens again within a minute is folded into one of the first ten
// entries, which moves to the front.
type aclModel struct {
	now     time.Time
	next    uint64
	longest int
	hasID   bool
	entries []aclModelEntry
}

type aclModelEntry struct {
	id            uint64
	user          string
	count         uint64
	created, last time.Time
}

func (m *aclModel) guess(user string) {
	for i, e := range m.entries[:min(10, len(m.entries))] {
		if e.user == user && m.now.Sub(e.last) <= folding {
			e.count++
			e.last = m.now
			m.entries = slices.Insert(slices.Delete(m.entries, i, i+1), 0, e)
			return
		}
	}
	m.entries = slices.Insert(m.entries, 0, aclModelEntry{id: m.next, user: user, count: 1, created: m.now, last: m.now})
	m.next++
	m.entries = m.entries[:min(len(m.entries), m.longest)]
}

func (m *aclModel) read(most int) aclLog {
	log := aclLog{at: m.now, blur: time.Millisecond, hasID: m.hasID, complete: len(m.entries) < most}
	for _, e := range m.entries[:min(most, len(m.entries))] {
		entry := native.ACLEntry{Count: e.count, Reason: "auth", Object: "AUTH", Username: e.user, Age: m.now.Sub(e.last)}
		if m.hasID {
			entry.ID, entry.HasID, entry.Created, entry.Updated = e.id, true, e.created, e.last
		}
		log.entries = append(log.entries, entry)
	}
	return log
}

// TestACLLogCountsEachGuessOnce: whatever clients guess and whenever it is polled, the news sum up to what was guessed, as long as
// the log is long enough.
func TestACLLogCountsEachGuessOnce(t *testing.T) {
	t.Parallel()
	for _, hasID := range []bool{false, true} {
		t.Run("numbers "+strconv.FormatBool(hasID), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				m := &aclModel{now: time.Unix(1_795_600_000, 0), longest: 1000, hasID: hasID}
				want, got := map[string]uint64{}, map[string]uint64{}
				var at aclPosition
				known := false
				for range rapid.IntRange(1, 60).Draw(t, "polls") {
					for range rapid.IntRange(0, 25).Draw(t, "guesses") {
						m.now = m.now.Add(time.Duration(rapid.IntRange(5, 20_000).Draw(t, "pause")) * time.Millisecond)
						user := "u" + strconv.Itoa(rapid.IntRange(0, 14).Draw(t, "user"))
						m.guess(user)
						want[user]++
					}
					m.now = m.now.Add(time.Duration(rapid.IntRange(5, 300).Draw(t, "poll")) * time.Millisecond)
					log := m.read(redisFew)
					if !known || !at.enough(log) {
						log = m.read(redisAll)
					}
					news := at.compare(log, m.longest)
					for i, n := range news.counts {
						got[log.entries[i].Username] += n
					}
					if news.overflow {
						t.Fatal("no overflow was possible")
					}
					at, known = news.next, true
				}
				for user, n := range want {
					if got[user] != n {
						t.Fatalf("%s guessed %d times, %d were told: %v", user, n, got[user], m.entries)
					}
				}
			})
		})
	}
}

// TestACLLogOverflow: what was lost is told, with numbers exactly.
func TestACLLogOverflow(t *testing.T) {
	t.Parallel()
	for _, hasID := range []bool{false, true} {
		m := &aclModel{now: time.Unix(1_795_600_000, 0), longest: 16, hasID: hasID}
		m.guess("before")
		at := aclPosition{}.compare(m.read(redisAll), m.longest).next
		for i := range 20 {
			m.now = m.now.Add(time.Second)
			m.guess("u" + strconv.Itoa(i))
		}
		news := at.compare(m.read(redisAll), m.longest)
		if !news.overflow || hasID && news.lost != 4 || !hasID && news.lost != 0 {
			t.Errorf("numbers %v: overflow %v, lost %d", hasID, news.overflow, news.lost)
		}
	}
}

// TestACLLogReset: after ACL LOG RESET by somebody counts begin anew, and nothing is lost.
func TestACLLogReset(t *testing.T) {
	t.Parallel()
	for _, hasID := range []bool{false, true} {
		m := &aclModel{now: time.Unix(1_795_600_000, 0), longest: 128, hasID: hasID}
		for _, user := range []string{"a", "b", "b", "b"} {
			m.guess(user)
			m.now = m.now.Add(10 * time.Millisecond)
		}
		at := aclPosition{}.compare(m.read(redisAll), m.longest).next
		m.entries = nil
		for range 5 { // more than there were before
			m.guess("b")
			m.now = m.now.Add(10 * time.Millisecond)
		}
		news := at.compare(m.read(redisAll), m.longest)
		if len(news.counts) != 1 || news.counts[0] != 5 {
			t.Errorf("numbers %v: news %v", hasID, news.counts)
		}
	}
}
