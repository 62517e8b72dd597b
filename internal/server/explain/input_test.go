package explain_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/loggen"
	"github.com/kokkuri/kokkuri/internal/server/detect"
	"github.com/kokkuri/kokkuri/internal/server/explain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func gzipped(t testing.TB, parts ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, p := range parts {
		w := gzip.NewWriter(&out)
		_, err := w.Write(p)
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
	return out.Bytes()
}

func zstandard(t testing.TB, parts ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, p := range parts {
		w, err := zstd.NewWriter(&out)
		require.NoError(t, err)
		_, err = w.Write(p)
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
	return out.Bytes()
}

// TestCompressedLogsAreReadAsTheyWere: gzip and zstd, of one member or several, cut anywhere.
func TestCompressedLogsAreReadAsTheyWere(t *testing.T) {
	t.Parallel()
	log, truth := generated(t, loggen.Options{Lines: 5000})
	want, _ := explainText(t, bytes.NewReader(log), explain.Options{JSON: true})
	a, b := log[:len(log)/3], log[len(log)/3:]
	skippable := append([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00skip"), zstandard(t, log)...)
	for name, data := range map[string][]byte{
		"gzip": gzipped(t, log), "gzip of members": gzipped(t, a, b), "zstd": zstandard(t, log), "zstd of frames": zstandard(t, a, b), "zstd after a skippable frame": skippable,
	} {
		got, sum := explainText(t, bytes.NewReader(data), explain.Options{JSON: true})
		assert.Equal(t, truth.Guesses, sum.Guesses, name)
		assert.Empty(t, cmp.Diff(want, got), name)
	}
}

// TestCompressionBombsTakeLittleMemory: what a few bytes unpack to is read in blocks like anything else.
func TestCompressionBombsTakeLittleMemory(t *testing.T) {
	zeros := make([]byte, 32<<20)
	lines := bytes.Repeat([]byte("a\n"), 1<<20)
	for name, bomb := range map[string][]byte{
		"gzip, no line end": bytes.Repeat(gzipped(t, zeros), 4), "gzip, many lines": gzipped(t, lines), "zstd, no line end": bytes.Repeat(zstandard(t, zeros), 4),
	} {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, sum := explainText(t, bytes.NewReader(bomb), explain.Options{Summary: true})
		runtime.ReadMemStats(&after)
		assert.Positive(t, sum.Lines, name)
		if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 64<<20 {
			t.Errorf("%s: the heap grew by %d MiB", name, grown>>20)
		}
	}
}

func TestWindowsTooLargeAreRefused(t *testing.T) {
	t.Parallel()
	// frame is one of a window of 2^bits bytes, with a line in a raw block (RFC 8878, section 3.1.1).
	frame := func(bits byte) io.Reader {
		const line = "0123456789abcdef\n"
		return strings.NewReader("\x28\xb5\x2f\xfd\x00" + string([]byte{(bits - 10) << 3, byte(len(line)<<3 | 1), 0, 0}) + line)
	}
	_, sum := explainText(t, frame(24), explain.Options{Summary: true})
	require.Equal(t, 1, sum.Lines)
	_, err := explain.Explain(t.Context(), from(frame(26)), io.Discard, explain.Options{Rules: shipped()})
	require.ErrorContains(t, err, "window size exceeded")
}

func TestOtherCompressionsAreNamed(t *testing.T) {
	t.Parallel()
	for magic, hint := range map[string]string{"\xfd7zXZ\x00\x00\x04": "xz -dc", "BZh91AY": "bzip2 -dc"} {
		_, err := explain.Explain(t.Context(), from(strings.NewReader(magic)), io.Discard, explain.Options{})
		require.ErrorIs(t, err, explain.ErrCompression)
		require.ErrorContains(t, err, hint)
	}
}

// TestWhatCameBeforeAnErrorIsExplained: a log that breaks off is read as far as it goes, and the error told.
func TestWhatCameBeforeAnErrorIsExplained(t *testing.T) {
	t.Parallel()
	log, _ := generated(t, loggen.Options{Lines: 5000})
	for _, data := range [][]byte{gzipped(t, log), zstandard(t, log)} {
		var out bytes.Buffer
		sum, err := explain.Explain(t.Context(), from(bytes.NewReader(data[:len(data)/2])), &out, explain.Options{JSON: true})
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.ErrorContains(t, err, "read - after line")
		assert.Contains(t, out.String(), `{"summary":`)
		assert.Positive(t, sum.Guesses)
	}
}

// file is an input that can be opened again and again.
func file(name string, data []byte, written time.Time) explain.Input {
	return explain.Input{Name: name, Written: written, Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

// TestRotatedLogsAreOneStream: logs are read in the order of their times, whatever their order, and a brute force over a rotation
// is one.
func TestRotatedLogsAreOneStream(t *testing.T) {
	t.Parallel()
	guess := func(at string) string {
		return at + " web sshd[1]: Failed password for root from 203.0.113.66 port 4022 ssh2\n"
	}
	old := []byte(guess("Nov 22 18:00:00") + guess("Nov 22 18:00:01") + guess("Nov 22 18:00:02"))
	fresh := []byte(guess("Nov 22 18:00:10") + guess("Nov 22 18:00:11"))
	dec, jan := []byte(guess("Dec 31 23:59:59")), []byte(guess("Jan  1 00:00:01"))
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		require.NoError(t, err)
		return v
	}
	inputs := []explain.Input{
		file("auth.log", fresh, at("2026-11-22T18:01:00Z")), file("jan", jan, at("2027-01-01T00:01:00Z")),
		file("auth.log.1.gz", gzipped(t, old), at("2026-11-22T18:00:05Z")), file("dec", dec, at("2027-01-01T00:00:00Z")),
	}
	var out strings.Builder
	_, err := explain.Explain(t.Context(), inputs, &out, explain.Options{JSON: true})
	require.NoError(t, err)
	var order []string
	for line := range strings.Lines(out.String()) {
		var v struct {
			Line    int       `json:"line"`
			File    string    `json:"file"`
			Time    time.Time `json:"time"`
			Offence *struct {
				Rule string `json:"rule"`
				Line int    `json:"line"`
				File string `json:"file"`
			} `json:"offence"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &v))
		switch {
		case v.Offence != nil && v.Offence.Rule == "ssh-bruteforce":
			order = append(order, fmt.Sprintf("%s at %s:%d", v.Offence.Rule, v.Offence.File, v.Offence.Line))
		case v.File != "":
			order = append(order, fmt.Sprintf("%s:%d %d", v.File, v.Line, v.Time.Year()))
		}
	}
	assert.Equal(t, []string{
		"auth.log.1.gz:1 2026", "auth.log.1.gz:2 2026", "auth.log.1.gz:3 2026", "auth.log:1 2026", "auth.log:2 2026",
		"ssh-bruteforce at auth.log:2", "dec:1 2026", "jan:1 2027",
	}, order)
	out.Reset()
	_, err = explain.Explain(t.Context(), inputs, &out, explain.Options{})
	require.NoError(t, err)
	assert.Contains(t, out.String(), "auth.log.1.gz:1,2,3,auth.log:1,2")
}

// stuck is a reader that gives something and then nothing more, until it is let go.
type stuck struct {
	first io.Reader
	gone  chan struct{}
}

func (s *stuck) Read(b []byte) (int, error) {
	if n, err := s.first.Read(b); err == nil {
		return n, nil
	}
	<-s.gone
	return 0, io.EOF
}

// TestAReadThatDoesNotReturnEndsWithTheContext: as when nobody types any more.
func TestAReadThatDoesNotReturnEndsWithTheContext(t *testing.T) {
	t.Parallel()
	s := &stuck{strings.NewReader("a line\n"), make(chan struct{})}
	defer close(s.gone)
	ctx, stop := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	ended := make(chan error, 1)
	go func() {
		_, err := explain.Explain(ctx, from(explain.Abandonable(ctx, s)), io.Discard, explain.Options{})
		ended <- err
	}()
	stop(why)
	require.ErrorIs(t, <-ended, why)
}

func TestAbandonableReadsAll(t *testing.T) {
	t.Parallel()
	want := bytes.Repeat([]byte("0123456789"), 100_000)
	got, err := io.ReadAll(explain.Abandonable(t.Context(), bytes.NewReader(want)))
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestShapesOfWhatIsNotUnderstood(t *testing.T) {
	t.Parallel()
	var in strings.Builder
	for i := range 30 {
		fmt.Fprintf(&in, "Nov 22 18:00:%02d web sshd[%d]: Something new about user 'u%d' from 203.0.113.%d port %d key deadbeef%02x\n", i, i, i, i, 1000+i, i)
	}
	for i := range 7 {
		fmt.Fprintf(&in, "garbage %d 2001:db8::%x \x1b[2J\n", i, i+10)
	}
	in.WriteString("-- Boot 0123 --\n\n   \nNov 22 18:00:00 web cron[1]: not ours\n")
	out, sum := explainText(t, strings.NewReader(in.String()), explain.Options{})
	assert.Equal(t, 37, sum.Unknown)
	require.Len(t, sum.Shapes, 2)
	assert.Equal(t, explain.Shape{Count: 30, Line: 1, Service: event.SSH, Text: "sshd: Something new about user '…' from @ port # key @"}, sum.Shapes[0])
	assert.Equal(t, explain.Shape{Count: 7, Line: 31, Text: "garbage # @ \x1b[#J"}, sum.Shapes[1])
	assert.Contains(t, out, `garbage # @ \x1b[#J`)
	assert.NotContains(t, out, "\x1b")
}

// TestManyShapesAreBounded: the most frequent ones are found among any number of others.
func TestManyShapesAreBounded(t *testing.T) {
	t.Parallel()
	var in strings.Builder
	word := func(i int) string {
		b := []byte("aaaaaa")
		for k := range b {
			b[k] = byte('a' + i%26)
			i /= 26
		}
		return string(b)
	}
	for i := range 50_000 {
		fmt.Fprintf(&in, "one of a kind %s\n", word(i*7919))
		if i%10 == 0 {
			in.WriteString("often seen\n")
		}
	}
	_, sum := explainText(t, strings.NewReader(in.String()), explain.Options{Summary: true})
	assert.Equal(t, 55_000, sum.Unknown)
	assert.LessOrEqual(t, len(sum.Shapes), 20)
	assert.Equal(t, "often seen", sum.Shapes[0].Text)
	assert.Equal(t, 5000, sum.Shapes[0].Count)
}

func TestProgress(t *testing.T) {
	t.Parallel()
	log, _ := generated(t, loggen.Options{Lines: 20_000})
	at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	var told []explain.Progress
	_, err := explain.Explain(t.Context(), []explain.Input{file("log", log, at)}, io.Discard, explain.Options{
		Now:      func() time.Time { at = at.Add(time.Second); return at },
		Progress: func(p explain.Progress) { told = append(told, p) },
	})
	require.NoError(t, err)
	require.NotEmpty(t, told)
	last := told[len(told)-1]
	assert.Equal(t, explain.Progress{Read: int64(len(log)), Total: int64(len(log)), Lines: 20_000}, last)
}

// FuzzExplain: whatever comes, compressed or not, is explained in lines of JSON or refused, with as many workers as may be, and never
// panics; nothing that a terminal would obey is written.
func FuzzExplain(f *testing.F) {
	rules := detect.DefaultRules()
	log, _ := generated(f, loggen.Options{Lines: 60, Stamp: loggen.RFC3164})
	f.Add(log, true)
	f.Add(gzipped(f, log), true)
	f.Add(zstandard(f, log[:500], log[500:]), false)
	f.Add([]byte("\x1f\x8b\x08\x00garbage"), false)
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\x00"), true)
	f.Add([]byte("\x50\x2a\x4d\x18\xff\xff\xff\xff"), true)
	f.Add([]byte("Sun 2026-11-22 18:00:00 CET web sshd[1]: x\x1b[2J\n[ 1.5] a b: c\n1763834400.5 a sshd: Failed password for root from ::1 port 1 ssh2\n\xff\x00"), true)
	f.Fuzz(func(t *testing.T, data []byte, asJSON bool) {
		var outputs []string
		for _, workers := range []int{1, 3} {
			var out strings.Builder
			sum, err := explain.Explain(t.Context(), from(bytes.NewReader(data)), &out, explain.Options{
				Rules: rules, JSON: asJSON, Workers: workers, Service: event.SSH, Now: func() time.Time { return time.Unix(1_790_000_000, 0) },
			})
			if err == nil && sum.Lines == 0 && len(data) > 0 && data[0] == 'a' {
				t.Errorf("no lines in %q", data)
			}
			for line := range strings.Lines(out.String()) {
				if asJSON && !json.Valid([]byte(line)) {
					t.Errorf("no JSON: %q", line)
				}
				if strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x1b\x00\r\n\x7f") {
					t.Errorf("unsafe: %q", line)
				}
			}
			outputs = append(outputs, out.String())
		}
		if outputs[0] != outputs[1] {
			t.Errorf("(-one worker +several)\n%s", cmp.Diff(outputs[0], outputs[1]))
		}
	})
}
