package replay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/cli/replay"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/intel/terminal"
	"github.com/kokkuri/kokkuri/internal/recording"
)

type out struct {
	at   time.Duration
	text string
}

func recorded(t require.TestingT, what string, outs ...out) *recording.Reader {
	b, err := recording.EncodeHeader(recording.Header{Session: "0123456789ab", Attacker: netip.MustParsePrefix("203.0.113.66/32"), StartedAt: time.Now()})
	require.NoError(t, err)
	start, err := json.Marshal(event.Evidence{Start: &event.Start{What: what, Command: "id\x1b[2J", Term: "xterm", Width: 80, Height: 24}})
	require.NoError(t, err)
	b = recording.AppendFrame(b, recording.Frame{Kind: recording.Note, Channel: 1, Payload: start})
	for _, o := range outs {
		b = recording.AppendFrame(b, recording.Frame{Kind: recording.Out, Channel: 1, Offset: o.at, Payload: []byte(o.text)})
	}
	r, err := recording.NewReader(bytes.NewReader(b))
	require.NoError(t, err)
	return r
}

func load(t require.TestingT, idle time.Duration, outs ...out) *replay.Tape {
	tape, err := replay.Load(recorded(t, "shell", outs...), 0, idle)
	require.NoError(t, err)
	return tape
}

func TestFilterLetsDrawAndNothingElse(t *testing.T) {
	for in, want := range map[string]string{
		"plain\r\n\ttext\b":                       "plain\r\n\ttext\b",
		"\x1b[1;31mred\x1b[0m":                    "\x1b[1;31mred\x1b[0m",
		"\x1b[2J\x1b[3;4H\x1b[K":                  "\x1b[2J\x1b[3;4H\x1b[K",
		"\x1b[?1049h\x1b[?25l":                    "\x1b[?1049h\x1b[?25l",
		"a\x1b]0;title\ab":                        "ab",
		"a\x1b]52;c;ZXZpbA==\x1b\\b":              "ab",
		"a\x1b]8;;http://x\x1b\\b":                "ab",
		"a\x1bP+q544e\x1b\\b":                     "ab",
		"a\x1b_G\x1b\\b\x1b^x\x1b\\c":             "abc",
		"\x1b[6n\x1b[c\x1b[>c\x1b[5n":             "",
		"\x1b[20t\x1b[8;99;99t":                   "",
		"\x1b[?1000h\x1b[?2004h":                  "",
		"\x1b[4h\x1b[12l":                         "",
		"\x1b(0lqk\x1b(B":                         "lqk",
		"\x0e\x0f\x05\x07\x00x":                   "x",
		"\x1bcx\x1b#8y":                           "xy",
		"\u202eevil\u2066":                        "\ufffdevil\ufffd",
		"\xff\xfe\x80":                            "\ufffd\ufffd\ufffd",
		"\u009b2J":                                "\ufffd2J",
		"ü€😀":                                     "ü€😀",
		"e\u0301\u0301\u0301\u0301\u0301\u0301x":  "e\u0301\u0301\u0301\u0301x",
		"\x1b[" + strings.Repeat("1;", 60) + "mx": "x",
		"\x1b[1\x1b[2mx":                          "\x1b[2mx",
		"\x1b[1\nx":                               "x",
		"\x1b[!p\x1b[1$r\x1b[ q":                  "",
		"\x1b[99999Bx":                            "x",
		"\x1b]0;no end\nx":                        "x",
		"\x1b]" + strings.Repeat("y", 4097) + "x": "x",
	} {
		var f replay.Filter
		assert.Equal(t, want, string(f.Write([]byte(in))), "%q", in)
	}
	assert.Equal(t, "red title\n", replay.Text([]byte("\x1b[31mred\x1b[0m \x1b]0;x\atitle\n")))
}

// allowed is what may leave the filter, written independently of it.
func allowed() *regexp.Regexp {
	return regexp.MustCompile(`^(?:[\n\r\t\x08\x20-\x7e]|[^\x00-\x{9f}\x{ad}\x{200b}-\x{200f}\x{202a}-\x{202e}\x{2060}-\x{206f}\x{feff}]|\x1b[78DEM]|\x1b\[[0-9;:]*[@A-HJ-MPSXZ\x60adefmr]|\x1b\[\?(?:7|25|47|1047|1048|1049)[hl]|\x1b\[\?[0-9;:]*[JK])*$`)
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{"\x1b[31mx", "\x1b]0;t\a", "\x1b[?1049h", "\x1bP\x1b\\", "\xe2\x80\xae", "\x1b[\x1b[c", "\u009d0;x\x07"} {
		f.Add([]byte(s), 1)
	}
	ok := allowed()
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		var whole, parts, plain replay.Filter
		plain.Plain = true
		out := string(whole.Write(in))
		require.True(t, utf8.ValidString(out))
		require.Regexp(t, ok, out)
		cut = max(0, min(cut, len(in)))
		require.Equal(t, out, string(parts.Write(in[:cut]))+string(parts.Write(in[cut:])), "however it is cut")
		require.NotContains(t, string(plain.Write(in)), "\x1b")
	})
}

func TestFilterIsTheSameHoweverItIsCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.SampledFrom([]byte("a1;?[]\x1b\\mhP\x07\xc3\xbc\xe2\x80\xae\n"))).Draw(t, "in")
		var whole, parts replay.Filter
		want := string(whole.Write(in))
		got := ""
		var gotSb113 strings.Builder
		for _, b := range in {
			gotSb113.WriteString(string(parts.Write([]byte{b})))
		}
		got += gotSb113.String()
		require.Equal(t, want, got)
		require.Regexp(t, allowed(), want)
	})
}

func TestNothingToPlay(t *testing.T) {
	_, err := replay.Load(recorded(t, "shell"), 7, 0)
	require.ErrorIs(t, err, terminal.ErrNothing)
}

func TestText(t *testing.T) {
	tape, err := replay.Load(recorded(t, "exec", out{0, "\x1b[31muid=0\x1b[0m\r\n"}), 0, 0)
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, tape.WriteText(&b))
	assert.Equal(t, "$ id\\x1b[2J\r\nuid=0\r\n", b.String())
}

// screen is what was written, and when.
type screen struct {
	mu    sync.Mutex
	began time.Time
	all   []out
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, out{time.Since(s.began), string(p)})
	return len(p), nil
}

func (s *screen) texts() (list []out) {
	for _, o := range s.all {
		if !strings.HasPrefix(o.text, "\x1b") {
			list = append(list, o)
		}
	}
	return list
}

func play(t *testing.T, tape *replay.Tape, o replay.Options, keys func(press func(string), wait func(time.Duration))) *screen {
	t.Helper()
	s := &screen{began: time.Now()}
	ch := make(chan byte)
	o.Out, o.Keys = s, ch
	done := make(chan error, 1)
	go func() { done <- replay.Play(t.Context(), tape, o) }()
	if keys != nil {
		keys(func(k string) {
			for i := range len(k) {
				ch <- k[i]
			}
			synctest.Wait()
		}, func(d time.Duration) { time.Sleep(d) }) //nolint:forbidigo // synctest's clock
	}
	require.NoError(t, <-done)
	return s
}

func three() []out {
	return []out{{time.Second, "one "}, {3 * time.Second, "two "}, {63 * time.Second, "three "}}
}

func TestPlaysAtItsPace(t *testing.T) {
	for _, c := range []struct {
		idle  time.Duration
		speed float64
		want  []time.Duration
	}{
		{0, 1, []time.Duration{time.Second, 3 * time.Second, 63 * time.Second}},
		{0, 2, []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 31500 * time.Millisecond}},
		{time.Second, 1, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}},
	} {
		synctest.Test(t, func(t *testing.T) {
			got := play(t, load(t, c.idle, three()...), replay.Options{Speed: c.speed}, nil).texts()
			require.Len(t, got, 3)
			for i, want := range c.want {
				assert.Equal(t, want, got[i].at)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, load(t, 0, three()...), replay.Options{}, func(press func(string), wait func(time.Duration)) {
			wait(1500 * time.Millisecond)
			press(" ")
			wait(time.Hour)
			press(".") // two
			press(" ")
			press("++")
			wait(16 * time.Second)
		})
		var texts []string
		for _, o := range s.texts() {
			texts = append(texts, o.text)
		}
		assert.Equal(t, []string{"one ", "two ", "one ", "two ", "one ", "two ", "one ", "two ", "three "}, texts, "drawn anew when the status line goes")
		assert.Less(t, s.all[len(s.all)-1].at, time.Hour+17*time.Second)
	})
}

func TestKeysThatMeanNothingDelayNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, load(t, 0, out{10 * time.Second, "due"}, out{20 * time.Second, "end"}), replay.Options{}, func(press func(string), wait func(time.Duration)) {
			wait(9 * time.Second)
			press("z")
			wait(5 * time.Second)
			press("z")
			wait(10 * time.Second)
		})
		got := s.texts()
		require.Len(t, got, 2)
		assert.Equal(t, 10*time.Second, got[0].at)
		assert.Equal(t, 20*time.Second, got[1].at)
	})
}

func TestSearchAndLeaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, load(t, 0, three()...), replay.Options{}, func(press func(string), _ func(time.Duration)) {
			press("/THREx\x7f\r")
			press("n") // not again
			press("\x1b[D\x1b[D")
			press("q")
		})
		assert.Less(t, s.all[len(s.all)-1].at, time.Second, "no time passed")
		written := ""
		var writtenSb230 strings.Builder
		for _, o := range s.all {
			writtenSb230.WriteString(o.text)
		}
		written += writtenSb230.String()
		assert.Contains(t, written, "one two three ")
		assert.Contains(t, written, "not found: THRE")
		assert.Contains(t, written, "0:53 of 1:03")
		assert.True(t, strings.HasSuffix(written, "\x1b[0m\x1b[r\x1b[?1049l\x1b[?25h\r\n"), "the terminal is left in order")
	})
}

func TestBeginsWhereASearchIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := play(t, load(t, 0, three()...), replay.Options{Search: "o t"}, func(press func(string), _ func(time.Duration)) { press("q") })
		written := ""
		var writtenSb244 strings.Builder
		for _, o := range s.texts() {
			writtenSb244.WriteString(o.text)
		}
		written += writtenSb244.String()
		assert.Equal(t, "one two three ", written, "also over the borders of pieces")
	})
}

func TestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, replay.Play(ctx, load(t, 0, out{time.Hour, "x"}), replay.Options{Out: &bytes.Buffer{}}))
}
