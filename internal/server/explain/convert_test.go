package explain

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native"
)

// stanzas is a form in which a record begins with "@SECONDS " and goes on until the next one begins, or, where whole is set,
// is one line.
type stanzas struct {
	whole bool
	rec   []native.Record
	text  []byte
}

func (s *stanzas) Line(line []byte, _ time.Time) []native.Record {
	var at int64
	if _, err := fmt.Sscanf(string(line), "@%d ", &at); err != nil {
		if len(s.rec) > 0 {
			s.text = append(append(s.text, ' '), line...)
			s.rec[0].Text = s.text
		}
		return nil
	}
	_, text, _ := bytes.Cut(line, []byte{' '})
	over := s.Flush()
	s.text = slices.Clone(text)
	s.rec = []native.Record{{Time: time.Unix(at, 0), Text: s.text}}
	if s.whole {
		return s.Flush()
	}
	return over
}

func (s *stanzas) Flush() []native.Record {
	over := s.rec
	s.rec = nil
	return over
}

func formatOf(whole bool) native.Format {
	return native.Format{Name: fmt.Sprint("whole=", whole), App: "sshd", Service: event.SSH, New: func() native.Reader { return &stanzas{whole: whole} }}
}

// convert converts all lines, in blocks as a run does, and returns the converted with their lines' numbers.
func convert(t *testing.T, c *converter, text string) (out []string, lines int) {
	t.Helper()
	s := &splitter{r: strings.NewReader(text)}
	b := &block{buf: make([]byte, blockSize)}
	for {
		c.next(s, b)
		if b.lines == 0 && len(b.data) == 0 {
			require.ErrorIs(t, s.err, io.EOF)
			return out, lines
		}
		for i, rest := 0, b.data; len(rest) > 0; i++ {
			var line []byte
			line, rest = cutLine(rest)
			out = append(out, fmt.Sprintf("%d: %s", lines+b.numbers[i]+1, line))
		}
		lines += b.lines
		b.reset()
	}
}

// TestRecordsKeepTheNumbersOfTheirLines: in a form that ends with the line, and in one that ends with the next.
func TestRecordsKeepTheNumbersOfTheirLines(t *testing.T) {
	t.Parallel()
	const joined = "@100 one\nand more\n@101 two\n@102 three\nand\nand\n@103 four\n"
	c := guess([]native.Format{formatOf(false)}, []byte(joined), "", time.Time{})
	require.NotNil(t, c)
	out, lines := convert(t, c, joined)
	assert.Equal(t, 7, lines)
	assert.Equal(t, []string{
		"1: 1 1970-01-01T00:01:40Z - sshd - - - one and more", "3: 1 1970-01-01T00:01:41Z - sshd - - - two",
		"4: 1 1970-01-01T00:01:42Z - sshd - - - three and and", "7: 1 1970-01-01T00:01:43Z - sshd - - - four",
	}, out)
	const single = "@100 one\n\n@101 two\n@102 three\n"
	c = guess([]native.Format{formatOf(true)}, []byte(single), event.SSH, time.Time{})
	require.NotNil(t, c)
	out, lines = convert(t, c, single)
	assert.Equal(t, 4, lines)
	assert.Equal(t, []string{
		"1: 1 1970-01-01T00:01:40Z - sshd - - - one", "2: 1 1970-01-01T00:01:41Z - sshd - - - two", "4: 1 1970-01-01T00:01:42Z - sshd - - - three",
	}, out)
}

func TestLongNativeLogsGoOverManyBlocks(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	const records = 15_000
	for i := range records {
		fmt.Fprintf(&text, "@%d record %d\nits second line\n", i, i)
	}
	c := guess([]native.Format{formatOf(false)}, []byte(text.String()[:1000]), "", time.Time{})
	require.NotNil(t, c)
	out, lines := convert(t, c, text.String())
	assert.Equal(t, 2*records, lines)
	require.Len(t, out, records)
	for i, line := range out {
		require.True(t, strings.HasPrefix(line, fmt.Sprintf("%d: ", 2*i+1)), line)
		require.True(t, strings.HasSuffix(line, fmt.Sprintf("record %d its second line", i)), line)
	}
}

func TestGuessLeavesSyslogAlone(t *testing.T) {
	t.Parallel()
	both := []native.Format{formatOf(true)}
	for _, sample := range []string{
		"", "\n\n", "nothing\nknown\n", "Nov 22 18:00:00 web sshd[1]: x\nNov 22 18:00:00 web sshd[1]: x\n@100 one\n",
	} {
		assert.Nil(t, guess(both, []byte(sample), "", time.Unix(1_790_000_000, 0)), "%q", sample)
	}
	assert.Nil(t, guess(both, []byte("@100 one\n"), event.MySQL, time.Time{}), "of another service")
	assert.NotNil(t, guess(both, []byte("@100 one\n"), "", time.Time{}))
}
