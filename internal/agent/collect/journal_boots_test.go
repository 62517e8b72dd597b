package collect

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/agent/collect/journaltest"
)

const otherBoot = "11111111-2222-4333-8444-555555555555"

// machine is one whose journal is followed, and which may start again. journalctl runs in journald's world and is told of no
// folder, as on a host.
type machine struct {
	*journaltest.Journald

	dir string // of the journal
	bin string // of the programs
}

func newMachine(t *testing.T, w journaltest.World, between string) (*machine, Options, *stream) {
	t.Helper()
	m, s := &machine{dir: t.TempDir(), bin: t.TempDir()}, &stream{}
	program, bootID := m.boot(t, w, between)
	return m, Options{
		StateDir: t.TempDir(), Publish: s.publish, Journal: &Journal{Identifiers: []string{"sshd"}, Program: program, BootID: bootID},
	}, s
}

// boot starts the machine, or starts it again as if its power had failed.
func (m *machine) boot(t *testing.T, w journaltest.World, between string) (program, bootID string) {
	t.Helper()
	if m.Journald != nil {
		m.Stop()
	}
	m.Journald = journaltest.Boot(t, m.dir, w)
	return m.Programs(t, m.bin, between)
}

// following waits for a journalctl that follows, and returns its process.
func (m *machine) following(t *testing.T, not int) (pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(filepath.Join(m.bin, "following"))
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil && pid != not
	}, time.Minute, time.Millisecond)
	return pid
}

// killChild kills what nsenter runs.
func killChild(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
		if err != nil {
			return false
		}
		child, err := strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil && syscall.Kill(child, syscall.SIGKILL) == nil
	}, time.Minute, time.Millisecond)
}

// first logs until one arrives: from then on, all that is logged is followed.
func (m *machine) first(t *testing.T, s *stream) {
	t.Helper()
	log(t, m.Journald, "first")
	holds(t, s, []string{"first"})
}

// TestJournalAcrossBoots: what was written before the machine started again comes too, and what was written since.
func TestJournalAcrossBoots(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		one, two journaltest.World
		forget   bool // the journal was in memory only
		silent   bool // nothing that is asked for is written in the second boot until it is followed
	}{
		"plain":                        {one: journaltest.World{BootID: otherBoot}},
		"silent":                       {one: journaltest.World{BootID: otherBoot}, silent: true},
		"clock behind":                 {one: journaltest.World{BootID: otherBoot}, two: journaltest.World{Clock: -2 * time.Hour}},
		"clock ahead":                  {one: journaltest.World{BootID: otherBoot, Clock: -2 * time.Hour}},
		"in memory only":               {one: journaltest.World{BootID: otherBoot}, forget: true},
		"in memory only, clock behind": {one: journaltest.World{BootID: otherBoot}, two: journaltest.World{Clock: -2 * time.Hour}, forget: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, o, s := newMachine(t, test.one, "")
			_, stop := begun(t, o)
			stateExists(t, o.StateDir, "journal.json")
			m.first(t, s)
			stop()
			want := []string{"first"}
			log(t, m.Journald, "before")
			if test.forget {
				m.Stop()
				found, err := filepath.Glob(filepath.Join(m.dir, "*"))
				require.NoError(t, err)
				for _, f := range found {
					require.NoError(t, os.RemoveAll(f))
				}
			} else {
				want = append(want, "before")
			}
			m.boot(t, test.two, "")
			if !test.silent {
				log(t, m.Journald, "after")
				want = append(want, "after")
			}
			c, stop := begun(t, o)
			m.following(t, 0)
			if !test.silent {
				holds(t, s, want)
			}
			log(t, m.Journald, "followed")
			want = append(want, "followed")
			holds(t, s, want)
			if !test.forget {
				require.Empty(t, c.Findings())
			}
			stop()
			log(t, m.Journald, "away")
			_, _ = begun(t, o)
			want = append(want, "away")
			holds(t, s, want)
		})
	}
}

// TestJournalBetweenReadings: entries that are written while no journalctl reads, after one has ended and before the next begins to
// follow, come once and in order; so do those that are written all the time.
func TestJournalBetweenReadings(t *testing.T) {
	t.Parallel()
	const between = `n=$(($(cat $dir/n || echo 0)+1))
inside logger -t sshd -- "between $n"
echo $n >$dir/n`
	m, o, s := newMachine(t, journaltest.World{BootID: otherBoot}, between)
	_, stop := begun(t, o)
	stateExists(t, o.StateDir, "journal.json")
	pid := m.following(t, 0)
	written := 0
	write := func() {
		for range 1 + rand.IntN(20) {
			written++
			m.Run(t, "", "logger", "-t", "sshd", "--", "line "+strconv.Itoa(written))
		}
	}
	for round := range 12 {
		write()
		switch round % 4 {
		case 0:
			killChild(t, pid)
		case 1:
			m.Rotate(t)
			stop()
			write()
			_, stop = begun(t, o)
		case 2:
			s.set(func() { s.down = true })
			write()
			killChild(t, pid)
			s.set(func() { s.down = false })
		default:
			stop()
			write()
			written++
			log(t, m.Journald, "line "+strconv.Itoa(written)) // what waits in journald's socket is nobody's yet
			m.boot(t, journaltest.World{BootID: fmt.Sprintf("%08d-2222-4333-8444-555555555555", round)}, between)
			write()
			_, stop = begun(t, o)
		}
		write()
		pid = m.following(t, pid)
	}
	numbered := func(prefix string, n int) (out []string) {
		for i := range n {
			out = append(out, prefix+" "+strconv.Itoa(i+1))
		}
		return out
	}
	b, err := os.ReadFile(filepath.Join(m.bin, "n"))
	require.NoError(t, err)
	wrote, err := strconv.Atoi(strings.TrimSpace(string(b)))
	require.NoError(t, err)
	require.Greater(t, wrote, 12)
	want := map[string][]string{"line": numbered("line", written), "between": numbered("between", wrote)}
	byKind := func(messages []string) map[string][]string {
		got := make(map[string][]string)
		for _, message := range messages {
			if kind, _, _ := strings.Cut(message, " "); want[kind] != nil {
				got[kind] = append(got[kind], message)
			}
		}
		return got
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		if diff := cmp.Diff(want, byKind(messages(s.got()))); diff != "" {
			c.Errorf("written - and got +:\n%s\nin the journal:\n%s", diff, cmp.Diff(want, byKind(inJournal(t, m.Journald))))
		}
	}, time.Minute, 50*time.Millisecond)
}

// TestJournalVacuumedWhileFollowed: what is vacuumed while the bus takes nothing is noticed by the collector that goes on running.
func TestJournalVacuumedWhileFollowed(t *testing.T) {
	t.Parallel()
	m, o, s := newMachine(t, journaltest.World{}, "")
	c, _ := begun(t, o)
	stateExists(t, o.StateDir, "journal.json")
	m.first(t, s)
	s.set(func() { s.down = true })
	for i := range 600 { // more than a pipe and what waits hold
		m.Run(t, fmt.Sprintf("MESSAGE=%d %s\nSYSLOG_IDENTIFIER=sshd\n", i, strings.Repeat("x", 2000)), "logger", "--journald")
	}
	m.Rotate(t)
	log(t, m.Journald, "late")
	m.Vacuum(t)
	s.set(func() { s.down = false })
	require.Eventually(t, func() bool { return slices.Contains(messages(s.got()), "late") }, time.Minute, 10*time.Millisecond)
	// journalctl may still hold a file that was removed.
	got := messages(s.got())
	t.Logf("%d of 602 were read", len(got))
	if len(got) < 602 {
		require.Eventually(t, func() bool { return len(c.Findings()) == 1 }, time.Minute, 10*time.Millisecond)
		require.Contains(t, c.Findings()[0].Text, "vacuumed")
	}
}
