package intake

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// frames splits stream as a connection does that reads step bytes at a time.
func frames(stream []byte, step int) (out []string, cuts int, sound bool, rest int) {
	var s splitter
	var buf []byte
	for len(stream) > 0 {
		n := min(step, len(stream))
		buf = append(buf, stream[:n]...)
		stream = stream[n:]
		for len(buf) > 0 {
			frame, advance, v := s.next(buf)
			buf = buf[advance:]
			switch v {
			case whole, cut:
				if v == cut {
					cuts++
				}
				out = append(out, string(frame))
			case broken:
				return out, cuts, false, len(buf)
			case more:
				if advance == 0 {
					goto read
				}
			}
		}
	read:
	}
	return out, cuts, true, len(buf)
}

func counted(msg string) string { return fmt.Sprintf("%d %s", len(msg), msg) }

func TestFrames(t *testing.T) {
	t.Parallel()
	const a, b = "<34>Nov 22 18:00:00 web sshd[1]: a", "<34>1 2026-11-22T18:00:00Z web sshd 1 - - b\nwith two lines"
	long := "<34>" + strings.Repeat("x", maxFrame+100)
	for name, c := range map[string]struct {
		stream string
		want   []string
		cuts   int
		broken bool
		rest   int
	}{
		"lines":                        {a + "\n" + a + "\r\n\n", []string{a, a}, 0, false, 0},
		"counted":                      {counted(b) + counted(a), []string{b, a}, 0, false, 0},
		"mixed":                        {counted(b) + a + "\n" + counted(a) + "\n" + a + "\n", []string{b, a, a, a}, 0, false, 0},
		"half a line":                  {a, nil, 0, false, len(a)},
		"half a counted frame":         {"99 " + a, nil, 0, false, 3 + len(a)},
		"digits that are no count":     {"2026-11-22T18:00:00Z web sshd: no PRI\n123\n12 x\n", []string{"2026-11-22T18:00:00Z web sshd: no PRI", "123", "12 x"}, 0, false, 0},
		"overlong line":                {long + "\n" + a + "\n", []string{long[:maxFrame], a}, 1, false, 0},
		"overlong counted frame":       {counted(long) + counted(a), []string{long[:maxFrame], a}, 1, false, 0},
		"huge count":                   {counted(a) + "99999999 <34>", []string{a}, 0, true, 13},
		"count too long to be one":     {"12345678901 <34>x\n", []string{"12345678901 <34>x"}, 0, false, 0},
		"garbage":                      {"\x16\x03\x01\x02\x00\x01\x00\n" + a + "\n", []string{"\x16\x03\x01\x02\x00\x01\x00", a}, 0, false, 0},
		"count of a frame that begins": {"1 <", []string{"<"}, 0, false, 0},
	} {
		for _, step := range []int{1, 2, 7, 4096, 1 << 20} {
			got, cuts, sound, rest := frames([]byte(c.stream), step)
			assert.Equal(t, c.want, got, "%s in steps of %d", name, step)
			assert.Equal(t, c.cuts, cuts, name)
			assert.Equal(t, c.broken, !sound, name)
			if !c.broken {
				assert.Equal(t, c.rest, rest, name)
			}
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"<34>Nov 22 x":           "Nov 22 x",
		"<191>x":                 "x",
		"<0>x":                   "x",
		"<192>x":                 "<192>x",
		"<>x":                    "<>x",
		"<1234>x":                "<1234>x",
		"<34":                    "<34",
		"<34>":                   "",
		"x\ny\r\n\x00":           "x#012y",
		"<38>1 2026 web\nforged": "1 2026 web#012forged",
		"":                       "",
	} {
		assert.Equal(t, want, string(text([]byte(in))), "%q", in)
	}
}

// FuzzFrames: whatever is sent, in whatever pieces: no panic, no frame above the bound, the same frames.
func FuzzFrames(f *testing.F) {
	for _, s := range []string{
		"<34>Nov 22 18:00:00 web sshd[1]: a\n", "29 <34>1 2026-11-22T18:00:00Z web", "99999999 <34>", "70000 <34>aaaa", "0 <", "1 <2 <3",
		"\x16\x03\x01\x02\x00", "GET / HTTP/1.1\r\n\r\n", "5 <34>a\n\n5 <34>b", strings.Repeat("9", 40) + " <",
	} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		if step < 1 || step > 1<<20 {
			step = 1
		}
		once, cuts, sound, _ := frames(stream, max(1, len(stream)))
		pieces, cuts2, sound2, _ := frames(stream, step)
		require.Equal(t, once, pieces)
		require.Equal(t, cuts, cuts2)
		require.Equal(t, sound, sound2)
		for _, frame := range once {
			require.LessOrEqual(t, len(frame), maxFrame)
			line := text([]byte(frame))
			require.NotContains(t, string(line), "\n")
			require.LessOrEqual(t, len(line), 4*maxFrame)
		}
	})
}

// FuzzConnection splits with a buffer that grows as a connection's does: the bound of the buffer always suffices.
func FuzzConnection(f *testing.F) {
	f.Add(200_000, byte('x'), true)
	f.Add(65_536, byte('1'), false)
	f.Add(65_553, byte(' '), false)
	f.Fuzz(func(t *testing.T, size int, fill byte, withCount bool) {
		if size < 1 || size > 300_000 {
			return
		}
		stream := bytes.Repeat([]byte{fill}, size)
		if withCount {
			stream = append([]byte(fmt.Sprintf("%d <", size)), stream...)
		}
		c := &connection{}
		for len(stream) > 0 {
			require.True(t, c.room())
			n := copy(c.buf[c.w:], stream)
			require.Positive(t, n)
			stream, c.w = stream[n:], c.w+n
			for c.r < c.w {
				_, advance, v := c.split.next(c.buf[c.r:c.w])
				c.r += advance
				if v == broken {
					return
				}
				if v == more && advance == 0 {
					break
				}
			}
		}
	})
}
