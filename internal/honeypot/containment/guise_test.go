package containment_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a program hands to uname(2) is written to by the node: only the program's own memory is.
func TestPointersOfAskers(t *testing.T) {
	w := newWard(t)
	a, b := w.start(t, 0), w.start(t, 1)
	a.bring(t, build(t, "asker"))
	passwd := a.say(t, "sha256sum /etc/passwd")
	assert.Equal(t, strings.Join([]string{
		"null EFAULT", "kernel EFAULT", "last EFAULT", "noncanonical EFAULT", "unmapped EFAULT", "straddling EFAULT",
		"forbidden EFAULT", "shared-readonly EFAULT", "covered EFAULT", "good ok",
	}, "\n"), a.say(t, "/root/asker pointers"))
	assert.Equal(t, passwd, a.say(t, "sha256sum /etc/passwd"), "a file that the program could only read")
	assert.Equal(t, "vfork "+release+"\nint80 "+release+"\nchroot "+release, a.say(t, "/root/asker ways"))
	a.isWell(t)
	b.isWell(t)
}

// Questions by hundreds of threads, whose programs are killed meanwhile.
func TestFloodOfQuestions(t *testing.T) {
	w := newWard(t)
	a, b := w.start(t, 0), w.start(t, 1)
	a.bring(t, build(t, "asker"))
	b.isWell(t)
	before := useOf(t)
	answered := 0
	out := a.askWhile(t, "/root/asker flood 5", func() { b.isWell(t); answered++ })
	assert.Equal(t, answer{out: "done"}, out)
	t.Logf("the other pot was asked %d times meanwhile", answered)
	before.holds(t)
	a.isWell(t)
}

// A pot's root can open 4096 files in each of its processes; each open file of the node's costs the node.
func TestThousandsOfOpenFiles(t *testing.T) {
	w := newWard(t)
	a, b := w.start(t, 0), w.start(t, 1)
	a.bring(t, build(t, "asker"))
	b.isWell(t)
	before := useOf(t)
	out := a.askWhile(t, "ulimit -n 4096; /root/asker opens 6", func() { b.isWell(t); before.holds(t) })
	require.NoError(t, out.err)
	n, err := strconv.Atoi(out.out)
	require.NoError(t, err, out.out)
	assert.Positive(t, n)
	assert.LessOrEqual(t, n, 256, "files of the node's that a pot has open at once")
	require.Eventually(t, func() bool { return strings.HasPrefix(a.say(t, "cat /proc/meminfo"), "MemTotal: ") }, patience, 50*time.Millisecond,
		"those that were closed count no more")
	b.isWell(t)
}

// Who is root in a pot can trace its first process, and so take the listener that the node answers by. It gets to answer
// for the kernel what its own programs ask, and no more: the node neither waits for it nor do other pots.
func TestStolenListener(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the program that steals reads the registers of amd64, as CI has; pace and break-off are tested on all by internal/honeypot/guise")
	}
	w := newWard(t)
	a, b := w.start(t, 0), w.start(t, 1)
	a.bring(t, build(t, "asker"))
	ask := a.begin(t, "for i in 1 2 3 4 5 6 7 8; do (while :; do timeout -s KILL 1 busybox uname; done) & done; wait")
	a.begin(t, "/root/asker steal")
	stolen := func() int {
		data, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(a.pid), "root/tmp/stolen"))
		n, _ := strconv.Atoi(strings.TrimSpace(string(data)))
		return n
	}
	require.Eventually(t, func() bool { return stolen() > 50 }, patience, 20*time.Millisecond, "nothing is stolen, so that this test can't fail")
	b.isWell(t)
	ask()
	closed := make(chan struct{})
	go func() { w.guises.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("the node can't stop: it waits for a question that another one took")
	}
}

// use is what the node's own process uses.
type use struct{ goroutines, threads, files, memory int }

func useOf(t *testing.T) use {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	field := func(name string) int {
		_, rest, _ := strings.Cut(string(status), "\n"+name+":")
		n, _ := strconv.Atoi(strings.Fields(rest)[0])
		return n
	}
	files, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return use{goroutines: runtime.NumGoroutine(), threads: field("Threads"), files: len(files), memory: field("VmRSS") << 10}
}

// holds requires that the node uses little more than before.
func (before use) holds(t *testing.T) {
	t.Helper()
	now := useOf(t)
	assert.Less(t, now.goroutines-before.goroutines, 400, "goroutines")
	assert.Less(t, now.threads-before.threads, 300, "threads")
	assert.Less(t, now.files-before.files, 300, "open files")
	assert.Less(t, now.memory-before.memory, 128<<20, "bytes of memory")
}
