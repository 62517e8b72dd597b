package record_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
	"github.com/kokkuri/kokkuri/internal/recording"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func headerOf(id string) recording.Header {
	return recording.Header{
		Session: id, Node: "node", Host: "web", Service: event.SSH,
		Attacker: netip.MustParsePrefix("203.0.113.66/32"), Peer: netip.MustParseAddrPort("198.51.100.10:4022"),
		StartedAt: time.Now(),
	}
}

func openVault(t *testing.T, dir string, change func(*record.VaultOptions)) *record.Vault {
	t.Helper()
	o := record.VaultOptions{Dir: dir, MinFree: 1}
	if change != nil {
		change(&o)
	}
	v, err := record.OpenVault(o)
	require.NoError(t, err)
	return v
}

type frame struct {
	kind    recording.Kind
	payload string
}

func framesOf(t *testing.T, path string) (recording.Header, []frame, error) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // read-only
	r, err := recording.NewReader(f)
	require.NoError(t, err)
	var out []frame
	last := time.Duration(0)
	for {
		fr, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Header(), out, nil
		}
		if err != nil {
			return r.Header(), out, err
		}
		assert.GreaterOrEqual(t, fr.Offset, last)
		last = fr.Offset
		if fr.Kind == recording.Note { // looked at by tests of their own
			continue
		}
		out = append(out, frame{fr.Kind, string(fr.Payload)})
	}
}

func TestRecordingIsReadBack(t *testing.T) {
	dir := t.TempDir()
	v := openVault(t, dir, nil)
	h := headerOf("0123456789ab")
	rec, err := v.Begin(h)
	require.NoError(t, err)
	rec.Record(recording.Out, 1, []byte("SSH-2.0-x\r\n"))
	rec.Record(recording.In, 1, []byte("\x00\xff\x1b[2J"))
	big := strings.Repeat("b", recording.MaxFrame+1)
	rec.Record(recording.Out, 1, []byte(big))
	sum, truncated, err := rec.Close("attacker closed")
	require.NoError(t, err)
	assert.False(t, truncated)
	assert.Equal(t, filepath.Join(dir, "evidence", sum[:2], sum), v.Path(sum))

	got, frames, err := framesOf(t, v.Path(sum))
	require.NoError(t, err)
	assert.True(t, h.StartedAt.Equal(got.StartedAt))
	got.StartedAt = h.StartedAt
	assert.Equal(t, h, got)
	assert.Equal(t, []frame{
		{recording.Out, "SSH-2.0-x\r\n"},
		{recording.In, "\x00\xff\x1b[2J"},
		{recording.Out, big[:recording.MaxFrame]},
		{recording.Out, "b"},
		{recording.End, "attacker closed"},
	}, frames)
	_, _, err = rec.Close("again")
	require.Error(t, err)
	v.Forget(h.Session)
	left, err := os.ReadDir(filepath.Join(dir, "recordings"))
	require.NoError(t, err)
	assert.Empty(t, left)
	_, _, err = rec.Close("again")
	require.Error(t, err)
}

func TestRecordingOfASessionIsBounded(t *testing.T) {
	v := openVault(t, t.TempDir(), func(o *record.VaultOptions) { o.MaxSession = 4096 })
	rec, err := v.Begin(headerOf("0123456789ab"))
	require.NoError(t, err)
	for range 100 {
		rec.Record(recording.In, 1, bytes.Repeat([]byte("x"), 100))
	}
	sum, truncated, err := rec.Close("end")
	require.NoError(t, err)
	assert.True(t, truncated)
	_, frames, err := framesOf(t, v.Path(sum))
	require.NoError(t, err)
	assert.Equal(t, recording.Truncated, frames[len(frames)-2].kind)
	assert.Contains(t, frames[len(frames)-2].payload, "4096")
	st, err := os.Stat(v.Path(sum))
	require.NoError(t, err)
	assert.Less(t, st.Size(), int64(4400))
	assert.Equal(t, uint64(1), v.Counts().Truncated)
}

func TestRecordingsOfAnAttackerAreBoundedOverRestarts(t *testing.T) {
	dir := t.TempDir()
	small := func(o *record.VaultOptions) { o.MaxAttacker = 40 << 10 } // each counts for 16 KiB at least
	v := openVault(t, dir, small)
	results := make([]bool, 0, 3)
	for i := range 3 {
		if i == 1 {
			require.NoError(t, v.Save())
			v = openVault(t, dir, small)
		}
		rec, err := v.Begin(headerOf("0123456789a" + string('0'+byte(i))))
		require.NoError(t, err)
		rec.Record(recording.In, 1, []byte("hello"))
		_, truncated, err := rec.Close("end")
		require.NoError(t, err)
		results = append(results, truncated)
	}
	assert.Equal(t, []bool{false, false, true}, results)

	other := headerOf("ffffffffffff")
	other.Attacker = netip.MustParsePrefix("203.0.113.67/32")
	rec, err := v.Begin(other)
	require.NoError(t, err)
	rec.Record(recording.In, 1, bytes.Repeat([]byte("x"), 50<<10))
	_, truncated, err := rec.Close("end")
	require.NoError(t, err)
	assert.True(t, truncated, "more than its share in one recording")
}

func TestOldestRecordingsGoFirst(t *testing.T) {
	dir := t.TempDir()
	bound := func(o *record.VaultOptions) { o.MaxTotal = 100 << 10 }
	v := openVault(t, dir, bound)
	sums := make([]string, 0, 4)
	for i := range 4 {
		rec, err := v.Begin(headerOf("0123456789a" + string('0'+byte(i))))
		require.NoError(t, err)
		rec.Record(recording.In, 1, bytes.Repeat([]byte("x"), 29<<10))
		sum, _, err := rec.Close("end")
		require.NoError(t, err)
		if i < 3 {
			require.NoError(t, os.Chtimes(v.Path(sum), time.Time{}, time.Now().Add(time.Duration(i-10)*time.Minute)))
		}
		sums = append(sums, sum)
	}
	assert.NoFileExists(t, v.Path(sums[0]))
	for _, s := range sums[1:] {
		assert.FileExists(t, v.Path(s))
	}
	assert.Equal(t, uint64(1), v.Counts().Removed)
	v = openVault(t, dir, func(o *record.VaultOptions) { o.MaxTotal = 70 << 10 })
	assert.NoFileExists(t, v.Path(sums[1]))
	assert.FileExists(t, v.Path(sums[3]))
}

func TestFullDiskStopsRecordingNotTheSession(t *testing.T) {
	v := openVault(t, t.TempDir(), func(o *record.VaultOptions) { o.MinFree = 1 << 62 })
	rec, err := v.Begin(headerOf("0123456789ab"))
	require.NoError(t, err)
	rec.Record(recording.In, 1, []byte("hello"))
	sum, truncated, err := rec.Close("end")
	require.NoError(t, err)
	assert.True(t, truncated)
	_, frames, err := framesOf(t, v.Path(sum))
	require.NoError(t, err)
	assert.Equal(t, []frame{{recording.Truncated, "the disk is nearly full"}, {recording.End, "end"}}, frames)
}

func TestRecordingsOfAKilledProcessAreFinished(t *testing.T) {
	dir := t.TempDir()
	v := openVault(t, dir, nil)
	rec, err := v.Begin(headerOf("0123456789ab"))
	require.NoError(t, err)
	rec.Record(recording.Out, 1, []byte("login: "))
	rec.Record(recording.In, 1, []byte("root\n"))
	part := filepath.Join(dir, "recordings", "0123456789ab.part")
	data, err := os.ReadFile(part)
	require.NoError(t, err)
	// Cut within the last frame, as a crash can.
	require.NoError(t, os.WriteFile(part, data[:len(data)-2], 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "recordings", "junk.part"), []byte("KKREC2\r\n\xff\xff\xff\xff"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "recordings", "old.recovered"), nil, 0o600))

	v = openVault(t, dir, nil)
	got, err := v.Recover("node stopped")
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Equal(t, "0123456789ab", got[0].Header.Session)
	assert.Equal(t, int64(7), got[0].BytesOut)
	assert.Equal(t, int64(0), got[0].BytesIn)
	_, frames, err := framesOf(t, v.Path(got[0].SHA256))
	require.NoError(t, err)
	assert.Equal(t, []frame{{recording.Out, "login: "}, {recording.Truncated, "node stopped"}, {recording.End, "node stopped"}}, frames)
	left, err := filepath.Glob(filepath.Join(dir, "recordings", "*"))
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(dir, "recordings", "junk.part.broken")}, left)
	again, err := v.Recover("node stopped")
	require.NoError(t, err)
	assert.Empty(t, again)
}

func TestFinishedRecordingWhoseSessionWasNotToldIsFound(t *testing.T) {
	dir := t.TempDir()
	v := openVault(t, dir, nil)
	rec, err := v.Begin(headerOf("0123456789ab"))
	require.NoError(t, err)
	rec.Record(recording.In, 1, []byte("hello"))
	sum, _, err := rec.Close("attacker closed")
	require.NoError(t, err)

	v = openVault(t, dir, nil)
	got, err := v.Recover("node stopped")
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.True(t, got[0].Complete)
	assert.Equal(t, sum, got[0].SHA256)
	assert.Equal(t, "attacker closed", got[0].Reason)
	assert.Equal(t, int64(5), got[0].BytesIn)
	assert.FileExists(t, v.Path(sum))
	left, err := os.ReadDir(filepath.Join(dir, "recordings"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestPathTakesNoTricks(t *testing.T) {
	v := openVault(t, t.TempDir(), nil)
	for _, s := range []string{"", "../../etc/passwd", strings.Repeat("g", 64), strings.Repeat("/", 64)} {
		assert.Equal(t, "invalid", filepath.Base(v.Path(s)))
	}
}

// published collects what an outbox publishes, and fails while it is told to.
type published struct {
	mu       sync.Mutex
	fail     bool
	got      []event.Session
	evidence []event.Evidence
}

func (p *published) publish(_ context.Context, r event.SessionReport) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail {
		return errors.New("no server")
	}
	p.got = append(p.got, r.Session)
	p.evidence = append(p.evidence, r.Evidence...)
	return nil
}

func TestSessionRecordsOutliveServerAndNode(t *testing.T) {
	dir := t.TempDir()
	p := &published{fail: true}
	box, open, err := record.OpenOutbox(record.OutboxOptions{Dir: dir, Publish: p.publish})
	require.NoError(t, err)
	require.Empty(t, open)
	now := time.Now().UTC()
	running := event.Session{ID: "aaaaaaaaaaaa", StartedAt: now}
	over := event.Session{ID: "bbbbbbbbbbbb", StartedAt: now, EndedAt: now.Add(time.Second)}
	require.NoError(t, box.Put(running))
	require.NoError(t, box.Put(event.Session{ID: over.ID, StartedAt: now}))
	require.NoError(t, box.Put(over))
	require.Error(t, box.Flush(t.Context()))

	// The process is killed; the next one knows which session was open.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sessions", "x.json.1.tmp"), []byte("{"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sessions", "y.json"), []byte("{"), 0o600))
	box, open, err = record.OpenOutbox(record.OutboxOptions{Dir: dir, Publish: p.publish})
	require.NoError(t, err)
	require.Len(t, open, 1)
	assert.Equal(t, running.ID, open[0].ID)
	p.fail = false
	running.EndedAt, running.Reason = now.Add(time.Minute), "node stopped"
	require.NoError(t, box.Put(running))
	require.NoError(t, box.Flush(t.Context()))
	require.Len(t, p.got, 2)
	assert.Equal(t, over, p.got[0])
	assert.Equal(t, running, p.got[1])
	waiting, sent, dropped := box.Pending()
	assert.Equal(t, []uint64{0, 2, 0}, []uint64{uint64(waiting), sent, dropped})
	left, err := filepath.Glob(filepath.Join(dir, "sessions", "*"))
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(dir, "sessions", "y.json.broken")}, left)
}

func TestOutboxPublishesOpenAndClosed(t *testing.T) {
	p := &published{}
	box, _, err := record.OpenOutbox(record.OutboxOptions{Dir: t.TempDir(), Publish: p.publish})
	require.NoError(t, err)
	s := event.Session{ID: "aaaaaaaaaaaa", StartedAt: time.Now()}
	require.NoError(t, box.Put(s))
	require.NoError(t, box.Flush(t.Context()))
	s.EndedAt = time.Now()
	require.NoError(t, box.Put(s))
	require.NoError(t, box.Flush(t.Context()))
	require.Len(t, p.got, 2)
	assert.True(t, p.got[0].EndedAt.IsZero())
	assert.False(t, p.got[1].EndedAt.IsZero())
}

func TestOutboxIsBounded(t *testing.T) {
	p := &published{fail: true}
	box, _, err := record.OpenOutbox(record.OutboxOptions{Dir: t.TempDir(), Publish: p.publish, MaxPending: 1})
	require.NoError(t, err)
	require.NoError(t, box.Put(event.Session{ID: "aaaaaaaaaaaa"}))
	require.ErrorIs(t, box.Put(event.Session{ID: "bbbbbbbbbbbb"}), record.ErrOutboxFull)
	require.NoError(t, box.Put(event.Session{ID: "aaaaaaaaaaaa", EndedAt: time.Now()}), "its end is kept")
	_, _, dropped := box.Pending()
	assert.Equal(t, uint64(1), dropped)
}

func TestOutboxTriesAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := &published{fail: true}
		box, _, err := record.OpenOutbox(record.OutboxOptions{Dir: dir, Publish: p.publish})
		require.NoError(t, err)
		ended := make(chan struct{})
		go func() { box.Run(t.Context()); close(ended) }()
		t.Cleanup(func() { <-ended })
		require.NoError(t, box.Put(event.Session{ID: "aaaaaaaaaaaa"}))
		synctest.Wait()
		p.mu.Lock()
		p.fail = false
		p.mu.Unlock()
		time.Sleep(time.Minute) //nolint:forbidigo // synctest's clock
		waiting, sent, _ := box.Pending()
		assert.Equal(t, 0, waiting)
		assert.Equal(t, uint64(1), sent)
	})
}
