package record_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/recording"
)

func login(account string, ok bool) event.Evidence {
	return event.Evidence{Kind: event.EvidenceLogin, Login: &event.Login{Account: event.Bytes(account), Password: "x", Method: "password", Success: ok}}
}

// leftBy reads what the store has of a session.
func leftBy(t *testing.T, v *record.Vault, session, sum string) []event.Evidence {
	t.Helper()
	var out []event.Evidence
	for next := int64(0); ; {
		some, at, err := v.Evidence(session, sum, true, next, 1)
		require.NoError(t, err)
		if len(some) == 0 {
			return out
		}
		out = append(out, some...)
		next = at
	}
}

func TestEvidenceIsInTheRecordingInOrder(t *testing.T) {
	noted := 0
	v := openVault(t, t.TempDir(), func(o *record.VaultOptions) { o.Noted = func(string) { noted++ } })
	rec, err := v.Begin(headerOf("0123456789ab"))
	require.NoError(t, err)
	rec.Note(login("root", false))
	rec.Record(recording.Out, 1, []byte("$ "))
	rec.Note(login("ro\x1b[2Jot", true))
	assert.Len(t, leftBy(t, v, "0123456789ab", ""), 2, "also while it goes on")
	sum, _, err := rec.Close("attacker closed")
	require.NoError(t, err)
	v.Forget("0123456789ab")
	got := leftBy(t, v, "0123456789ab", sum)
	require.Len(t, got, 3)
	for i, e := range got {
		assert.Equal(t, i+1, e.Number)
		assert.Equal(t, "0123456789ab", e.Session)
		assert.False(t, e.At.IsZero())
	}
	assert.Equal(t, event.Bytes("ro\x1b[2Jot"), got[1].Login.Account)
	assert.Equal(t, event.Evidence{Session: "0123456789ab", Number: 3, At: got[2].At, Kind: event.EvidenceClosed, Reason: "attacker closed"}, got[2])
	assert.Equal(t, 2, noted)
}

// A session is told of before the first of its recording is on the disk.
func TestEvidenceOfASessionThatHasHardlyBegun(t *testing.T) {
	dir := t.TempDir()
	v := openVault(t, dir, nil)
	rec, err := v.Begin(headerOf("0123456789ab"))
	require.NoError(t, err)
	left, _, err := v.Evidence("0123456789ab", "", false, 0, 1<<20)
	require.NoError(t, err)
	assert.Empty(t, left)
	rec.Note(login("root", true))
	parts, err := filepath.Glob(filepath.Join(dir, "*", "0123456789ab.part"))
	require.NoError(t, err)
	require.Len(t, parts, 1)
	whole, err := os.ReadFile(parts[0])
	require.NoError(t, err)
	for n := range whole {
		require.NoError(t, os.WriteFile(parts[0], whole[:n], 0o600))
		left, _, err := v.Evidence("0123456789ab", "", false, 0, 1<<20)
		require.NoError(t, err, "%d of %d bytes", n, len(whole))
		assert.Empty(t, left)
	}
	require.NoError(t, os.WriteFile(parts[0], whole[:10], 0o600))
	_, _, err = v.Evidence("0123456789ab", "", true, 0, 1<<20)
	require.ErrorIs(t, err, recording.ErrFormat, "it has ended, so this is all")
	_, _, err = rec.Close("end")
	require.NoError(t, err)
}

func TestEvidenceGoesOnWhereBytesAreTruncated(t *testing.T) {
	v := openVault(t, t.TempDir(), func(o *record.VaultOptions) { o.MaxSession = 64 << 10 })
	rec, err := v.Begin(headerOf("0123456789ab"))
	require.NoError(t, err)
	rec.Record(recording.In, 1, make([]byte, 128<<10))
	rec.Note(login("root", true))
	sum, truncated, err := rec.Close("end")
	require.NoError(t, err)
	assert.True(t, truncated)
	var kinds []string
	for _, e := range leftBy(t, v, "0123456789ab", sum) {
		kinds = append(kinds, string(e.Kind))
	}
	assert.Equal(t, []string{"truncated", "login", "closed"}, kinds)
}

func TestPiecesOfEvidenceAreBounded(t *testing.T) {
	v := openVault(t, t.TempDir(), nil)
	rec, err := v.Begin(headerOf("0123456789ab"))
	require.NoError(t, err)
	for range 21_000 {
		rec.Note(login("root", false))
	}
	sum, truncated, err := rec.Close("end")
	require.NoError(t, err)
	assert.True(t, truncated)
	got := leftBy(t, v, "0123456789ab", sum)
	require.Len(t, got, 20_001)
	assert.Equal(t, event.EvidenceTruncated, got[20_000].Kind)
	assert.Contains(t, got[20_000].Reason, "more than 20000 pieces")
}

func TestFilesAreKeptUnderTheirSum(t *testing.T) {
	dir := t.TempDir()
	v := openVault(t, dir, func(o *record.VaultOptions) { o.MaxFile = 100 })
	rec, err := v.Begin(headerOf("0123456789ab"))
	require.NoError(t, err)

	whole := rec.Create(1, "sftp", "/tmp/a")
	_, _ = whole.WriteAt([]byte("world"), 6)
	_, _ = whole.WriteAt([]byte("hello "), 0)
	whole.Close(false)
	whole.Close(true) // twice is once
	long := rec.Create(1, "stdin", "")
	_, _ = long.WriteAt(make([]byte, 150), 0)
	_, _ = long.WriteAt([]byte("far"), 1<<40)
	long.Close(false)
	same := rec.Create(2, "scp", "/tmp/b")
	_, _ = same.WriteAt([]byte("hello world"), 0)
	same.Close(false)
	rec.Create(2, "scp", "/tmp/empty").Close(false)
	open := rec.Create(3, "sftp", "/tmp/c")
	_, _ = open.WriteAt([]byte("half"), 0)
	sum, _, err := rec.Close("end")
	require.NoError(t, err)
	_, _ = open.WriteAt([]byte("late"), 4)

	var files []event.File
	for _, e := range leftBy(t, v, "0123456789ab", sum) {
		if e.File != nil {
			files = append(files, *e.File)
		}
	}
	const hello = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	require.Len(t, files, 5)
	assert.Equal(t, event.File{How: "sftp", Path: "/tmp/a", SHA256: hello, Size: 11}, files[0])
	assert.Equal(t, int64(100), files[1].Size)
	assert.True(t, files[1].Truncated)
	assert.Equal(t, event.File{How: "scp", Path: "/tmp/b", SHA256: hello, Size: 11}, files[2])
	assert.Equal(t, event.File{How: "scp", Path: "/tmp/empty", SHA256: empty}, files[3])
	assert.True(t, files[4].Partial)
	data, size, err := v.Read(hello, 6, 100)
	require.NoError(t, err)
	assert.Equal(t, "world", string(data))
	assert.Equal(t, int64(11), size)
	_, _, err = v.Read(strings.Repeat("0", 64), 0, 1)
	require.ErrorIs(t, err, record.ErrNoEvidence)
	_, _, err = v.Read(hello, 12, 1)
	require.Error(t, err)
	v.Forget("0123456789ab")
	left, err := os.ReadDir(filepath.Join(dir, "recordings"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestFilesOfAnAttackerAreBounded(t *testing.T) {
	v := openVault(t, t.TempDir(), func(o *record.VaultOptions) { o.MaxAttacker = 1 << 20 })
	rec, err := v.Begin(headerOf("0123456789ab"))
	require.NoError(t, err)
	f := rec.Create(1, "stdin", "")
	for i := range 64 {
		_, _ = f.WriteAt(make([]byte, 64<<10), int64(i)*64<<10)
	}
	f.Close(false)
	sum, _, err := rec.Close("end")
	require.NoError(t, err)
	got := leftBy(t, v, "0123456789ab", sum)
	require.NotNil(t, got[0].File)
	assert.True(t, got[0].File.Truncated)
	assert.LessOrEqual(t, got[0].File.Size, int64(1<<20))
}

func TestNothingIsRecordedWithoutARecorder(*testing.T) {
	var rec *record.Recorder
	rec.Record(recording.In, 1, []byte("x"))
	rec.Note(login("root", false))
	f := rec.Create(1, "scp", "x")
	_, _ = f.WriteAt([]byte("x"), 0)
	f.Close(false)
}

func TestOutboxTellsEvidenceOnceAndInOrder(t *testing.T) {
	dir := t.TempDir()
	p := &published{}
	var box *record.Outbox
	v := openVault(t, dir, func(o *record.VaultOptions) { o.Noted = func(id string) { box.Noted(id) } })
	box, _, err := record.OpenOutbox(record.OutboxOptions{Dir: dir, Publish: p.publish, Vault: v})
	require.NoError(t, err)
	h := headerOf("0123456789ab")
	s := event.Session{ID: h.Session, StartedAt: h.StartedAt}
	require.NoError(t, box.Put(s))
	rec, err := v.Begin(h)
	require.NoError(t, err)
	rec.Note(login("root", false))
	require.NoError(t, box.Flush(t.Context()))
	rec.Note(login("admin", true))
	require.NoError(t, box.Flush(t.Context()))
	assert.Equal(t, event.Bytes("admin"), p.got[len(p.got)-1].Account)
	big := strings.Repeat("A", 60_000)
	for range 20 { // more than one report carries
		rec.Note(event.Evidence{Kind: event.EvidenceInput, Input: event.Bytes(big)})
	}
	s.Recording, _, err = rec.Close("bye")
	require.NoError(t, err)
	require.NoError(t, box.Flush(t.Context()))
	assert.Len(t, p.evidence, 22, "the end is told with the recording that can be fetched, not before")
	s.EndedAt = h.StartedAt.Add(1)
	require.NoError(t, box.Put(s))
	v.Forget(s.ID)
	require.NoError(t, box.Flush(t.Context()))
	require.Len(t, p.evidence, 23)
	for i, e := range p.evidence {
		assert.Equal(t, i+1, e.Number)
	}
	last := p.got[len(p.got)-1]
	assert.Equal(t, []int{2, 20, 23}, []int{last.Guesses, last.Commands, last.Evidence})
	assert.False(t, last.EndedAt.IsZero())
	waiting, _, _ := box.Pending()
	assert.Zero(t, waiting)
	left, err := os.ReadDir(filepath.Join(dir, "sessions"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// The child records 20 sessions at once and says of each piece when it has been taken; then it is killed.
func TestSIGKILLLosesNothingThatWasTaken(t *testing.T) {
	if dir := os.Getenv("KOKKURI_TEST_VAULT"); dir != "" {
		recordUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSIGKILLLosesNothingThatWasTaken$")
	cmd.Env = append(os.Environ(), "KOKKURI_TEST_VAULT="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	taken := map[string]int{}
	scan := bufio.NewScanner(out)
	killed := false
	for lines := 0; scan.Scan(); lines++ {
		var id string
		var n int
		if _, err := fmt.Sscanf(scan.Text(), "taken %s %d", &id, &n); err == nil {
			taken[id] = max(taken[id], n)
		}
		if lines >= 4000 && len(taken) == 20 && !killed {
			killed = true
			require.NoError(t, cmd.Process.Kill())
		}
	}
	_ = cmd.Wait()
	require.Len(t, taken, 20)

	v := openVault(t, dir, nil)
	found, err := v.Recover("node stopped")
	require.NoError(t, err)
	require.Len(t, found, 20)
	for _, r := range found {
		_, frames, err := framesOf(t, v.Path(r.SHA256))
		require.NoError(t, err, "it has an end")
		var in strings.Builder
		for _, f := range frames {
			if f.kind == recording.In {
				in.WriteString(f.payload)
			}
		}
		n := taken[r.Header.Session]
		assert.GreaterOrEqual(t, strings.Count(in.String(), "\n"), n)
		for i := 1; i <= n; i++ {
			assert.Contains(t, in.String(), fmt.Sprintf("line %d\n", i))
		}
		assert.Equal(t, recording.Truncated, frames[len(frames)-2].kind)
		assert.Equal(t, recording.End, frames[len(frames)-1].kind)
		assert.False(t, r.Complete)
		left := leftBy(t, v, r.Header.Session, r.SHA256)
		file := left[len(left)-3].File
		require.NotNil(t, file, "the file that was coming is kept")
		assert.True(t, file.Partial)
		assert.GreaterOrEqual(t, file.Size, int64(n))
		assert.Equal(t, event.EvidenceTruncated, left[len(left)-2].Kind)
		assert.Equal(t, event.EvidenceClosed, left[len(left)-1].Kind)
		logins := 0
		for i, e := range left {
			assert.Equal(t, i+1, e.Number)
			if e.Login != nil {
				logins++
			}
		}
		assert.GreaterOrEqual(t, logins, n)
	}
	parts, err := os.ReadDir(filepath.Join(dir, "recordings"))
	require.NoError(t, err)
	assert.Empty(t, parts)
}

func recordUntilKilled(t *testing.T, dir string) {
	t.Helper()
	v := openVault(t, dir, nil)
	var wg sync.WaitGroup
	for i := range 20 {
		id := fmt.Sprintf("%012x", i)
		rec, err := v.Begin(headerOf(id))
		require.NoError(t, err)
		wg.Go(func() {
			f := rec.Create(1, "stdin", "")
			for n := 1; n < 19_000; n++ { // far more than are waited for
				rec.Record(recording.In, 1, fmt.Appendf(nil, "line %d\n", n))
				rec.Note(login("root", false))
				_, _ = f.WriteAt([]byte{'x'}, int64(n-1))
				fmt.Printf("taken %s %d\n", id, n)
			}
		})
	}
	wg.Wait()
	_, _ = io.Copy(io.Discard, os.Stdin)
}
