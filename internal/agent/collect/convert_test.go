package collect

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
	"github.com/kokkuri/kokkuri/internal/tail"
	"github.com/kokkuri/kokkuri/internal/trouble"
)

// joined is a form of log whose records go on in lines that begin with a space: whether a record is whole shows only
// with the next.
type joined struct{ text []byte }

func (j *joined) Line(line []byte, _ time.Time) []native.Record {
	if bytes.HasPrefix(line, []byte(" ")) && j.text != nil {
		j.text = append(append(j.text, '\n'), line...)
		return nil
	}
	out := j.Flush()
	j.text = append([]byte{}, line...)
	return out
}

func (j *joined) Flush() []native.Record {
	if j.text == nil {
		return nil
	}
	text := j.text
	j.text = nil
	return []native.Record{{Text: text}}
}

// quoted is a form of log whose records end with a line in which no quotation is open, as CSV does.
type quoted struct{ text []byte }

func (q *quoted) Line(line []byte, _ time.Time) []native.Record {
	if q.text != nil {
		q.text = append(q.text, '\n')
	}
	q.text = append(q.text, line...)
	if bytes.Count(q.text, []byte{'"'})%2 == 1 {
		return nil
	}
	return q.Flush()
}

func (q *quoted) Flush() []native.Record {
	if q.text == nil {
		return nil
	}
	text := q.text
	q.text = nil
	return []native.Record{{Text: text}}
}

func testFormats() map[string]native.Format {
	return map[string]native.Format{
		"joined": {Name: "joined", App: "soft", New: func() native.Reader { return &joined{} }},
		"quoted": {Name: "quoted", App: "soft", New: func() native.Reader { return &quoted{} }},
	}
}

// texts are the lines of records, each record's joined by |.
func texts(lines []string) []string {
	var out []string
	for _, m := range messages(lines) {
		out = append(out, strings.ReplaceAll(m, "#012", "|"))
	}
	return out
}

// TestConverterLosesNothing is what must hold of any log, cut into any batches, whatever is killed when: every line is in
// one record, in order; and a record is cut only where nothing came for a second.
func TestConverterLosesNothing(t *testing.T) {
	t.Parallel()
	for name, format := range testFormats() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			rapid.Check(t, func(rt *rapid.T) { converterLosesNothing(rt, format, filepath.Join(dir, newNonce())) })
		})
	}
}

var errKilled = errors.New("killed")

func converterLosesNothing(t *rapid.T, format native.Format, state string) {
	lines := rapid.SliceOfN(rapid.StringMatching(`[ a-c"][a-c"]{0,3}`), 1, 30).Draw(t, "lines")
	s := &stream{}
	const live, killedBefore, killedAfter = 0, 1, 2
	fate := live
	problems := trouble.New(slog.New(slog.DiscardHandler), "test")
	ctx, cancel := context.WithCancel(context.Background())
	defer func() { cancel() }()
	o := &Options{Host: "web", Log: slog.New(slog.DiscardHandler), Publish: func(ctx context.Context, b event.Batch) error {
		if fate == killedBefore {
			cancel()
			return errKilled
		}
		if err := s.publish(ctx, b); err != nil {
			return err
		}
		if fate == killedAfter {
			cancel()
			return errKilled
		}
		return nil
	}}
	var v *converter
	launch := func() {
		if v != nil {
			v.kept.close()
		}
		ctx, cancel = context.WithCancel(context.Background()) //nolint:fatcontext // a new life
		v = newConverter(format, "", state, o, problems)
		v.idle = time.NewTimer(time.Hour)
		fate = live
		if err := v.restore(ctx); err != nil {
			t.Fatal(err)
		}
	}
	launch()
	reference := format.New()
	var want []string
	expect := func(records []native.Record) {
		for _, r := range records {
			want = append(want, strings.ReplaceAll(string(r.Text), "\n", "|"))
		}
	}
	for at := 0; at < len(lines); {
		n := rapid.IntRange(1, len(lines)-at).Draw(t, "batch")
		b := tail.Batch{ID: "n." + strconv.Itoa(at)}
		for _, l := range lines[at : at+n] {
			b.Lines = append(b.Lines, []byte(l))
			expect(reference.Line([]byte(l), time.Time{}))
		}
		for { // until it was taken, as tail does
			fate = rapid.IntRange(live, killedAfter).Draw(t, "fate")
			err := v.take(ctx, b)
			again := rapid.Bool().Draw(t, "killed before the cursor moved")
			if err != nil || again {
				launch()
				continue
			}
			break
		}
		at += n
		if !rapid.Bool().Draw(t, "idle") {
			continue
		}
		for {
			v.last = time.Time{}
			fate = rapid.IntRange(live, killedAfter).Draw(t, "fate")
			if err := v.settle(ctx); err == nil {
				break
			}
			launch()
		}
		expect(reference.Flush())
	}
	v.last, fate = time.Time{}, live
	if err := v.settle(ctx); err != nil {
		t.Fatal(err)
	}
	expect(reference.Flush())
	if diff := cmp.Diff(want, texts(s.got())); diff != "" {
		t.Fatalf("wanted - and got +:\n%s", diff)
	}
	v.kept.close()
}

func TestOpenRecordIsPublishedWhenNothingFollows(t *testing.T) {
	t.Parallel()
	s := &stream{}
	file := filepath.Join(t.TempDir(), "soft.log")
	c, _ := begun(t, Options{StateDir: t.TempDir(), Publish: s.publish, Logs: []Log{{Path: file, Format: testFormats()["joined"]}}})
	require.Eventually(t, func() bool { return len(c.Findings()) == 1 }, time.Minute, time.Millisecond, "the first look is over")
	require.NoError(t, os.WriteFile(file, []byte("one\n more\n"), 0o600))
	require.Eventually(t, func() bool { return len(s.got()) == 1 }, time.Minute, time.Millisecond)
	require.Equal(t, `1 - web soft - - [kokkuri@32473 format="joined" file="`+file+`"] one#012 more`, s.got()[0])
}

func TestOpenRecordIsBounded(t *testing.T) {
	t.Parallel()
	s := &stream{}
	log := slog.New(slog.DiscardHandler)
	v := newConverter(testFormats()["quoted"], "", filepath.Join(t.TempDir(), "open"), &Options{Host: "web", Publish: s.publish, Log: log}, trouble.New(log, "test"))
	v.idle = time.NewTimer(time.Hour)
	defer v.kept.close()
	for i := range 2 * maxOpenLines / 500 {
		b := tail.Batch{ID: strconv.Itoa(i)}
		for range 500 {
			b.Lines = append(b.Lines, []byte("no end"))
		}
		if i == 0 {
			b.Lines[0] = []byte(`"begins`)
		}
		require.NoError(t, v.take(t.Context(), b))
		require.LessOrEqual(t, len(v.state.Lines), maxOpenLines)
	}
	require.Equal(t, int64(1), v.lost.split.Load())
	require.Positive(t, v.lost.cutBytes.Load())
	require.LessOrEqual(t, len(s.got()[0]), maxLine)
}

// TestConverterKilled kills the collector again and again while records of several lines are written in pieces, and the log
// is rotated and truncated under its feet.
func TestConverterKilled(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"joined", "quoted"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			log := filepath.Join(t.TempDir(), "soft.log")
			k := newKilled(t, childSetup{Log: log, Format: format})
			k.launch()
			require.Eventually(t, func() bool {
				found, err := filepath.Glob(filepath.Join(k.state, "cursors", "soft*.json"))
				found2, err2 := filepath.Glob(filepath.Join(k.state, "cursors", "*soft*.json"))
				return err == nil && err2 == nil && len(found)+len(found2) > 0
			}, time.Minute, time.Millisecond)
			var want []string
			f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
			require.NoError(t, err)
			want = append(want, "alone 0", "alone 1")
			_, err = f.WriteString("alone 0\nalone 1\n")
			require.NoError(t, err)
			require.Eventually(t, func() bool { // a log that was rotated away before it was ever seen is not looked for
				got, _ := read(t, k.out)
				return len(got) > 0
			}, time.Minute, time.Millisecond)
			for round := range 40 {
				for range 1 + rand.IntN(20) {
					n := strconv.Itoa(len(want))
					record := []string{`first "` + n, ` second`, ` third" ` + n}[:]
					if rand.IntN(3) == 0 {
						record = []string{`alone ` + n}
					}
					want = append(want, strings.Join(record, "|"))
					for i, line := range record {
						if i > 0 && rand.IntN(30) == 0 {
							k.again(5 * time.Millisecond)
						}
						_, err := f.WriteString(line + "\n")
						require.NoError(t, err)
					}
				}
				if round%4 == 3 {
					for i := 9; i > 0; i-- {
						_ = os.Rename(log+"."+strconv.Itoa(i), log+"."+strconv.Itoa(i+1))
					}
					require.NoError(t, f.Close())
					require.NoError(t, os.Rename(log, log+".1"))
					f, err = os.OpenFile(log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
					require.NoError(t, err)
				}
				k.again(15 * time.Millisecond)
			}
			require.NoError(t, f.Close())
			k.holds(want, texts)
		})
	}
}
