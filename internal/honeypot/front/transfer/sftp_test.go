package transfer_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/transfer"
)

// pkt builds an SFTP packet: uint32, uint64 and byte are fields, strings have their length before them.
func pkt(fields ...any) string {
	var b []byte
	for _, f := range fields {
		switch f := f.(type) {
		case byte:
			b = append(b, f)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, f)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, f)
		case string:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
		default:
			panic(f)
		}
	}
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(b)))) + string(b)
}

const (
	toRead   = uint32(1)
	toWrite  = uint32(2 | 8 | 16)
	toAppend = uint32(2 | 4 | 8)
)

func in(data string) step  { return step{false, data} }
func out(data string) step { return step{true, data} }

func initIn() step                     { return in(pkt(byte(1), uint32(3))) }
func initOut() step                    { return out(pkt(byte(2), uint32(3), "posix-rename@openssh.com", "1")) }
func handleIs(n uint32, h string) step { return out(pkt(byte(102), n, h)) }
func closing(n uint32, h string) step  { return in(pkt(byte(4), n, h)) }

func opening(n uint32, path string, flags uint32) step {
	return in(pkt(byte(3), n, path, flags, uint32(4), uint32(0o644)))
}

func writing(n uint32, h string, at uint64, data string) step {
	return in(pkt(byte(6), n, h, at, data))
}

func status(n, code uint32) step { return out(pkt(byte(101), n, code, "why", "en")) }

func sftpCases() map[string]struct {
	steps []step
	want  []got
	lost  bool
} {
	long := strings.Repeat("x", 4097)
	many := []step{}
	for i := range uint32(65) {
		h := fmt.Sprintf("%04d", i)
		many = append(many, opening(i, "/a", toWrite), handleIs(i, h), writing(900, h, 0, "x"))
	}
	manyWant := []got{}
	for range 64 {
		manyWant = append(manyWant, part("sftp", "/a", "x"))
	}
	floods := []step{}
	for i := range uint32(257) {
		floods = append(floods, opening(i, "/a", toRead))
	}
	return map[string]struct {
		steps []step
		want  []got
		lost  bool
	}{
		"one file": {
			steps: []step{
				initIn(), initOut(), opening(1, "/tmp/a b\n", toWrite), handleIs(1, "h"), writing(2, "h", 0, "hello "), writing(3, "h", 6, "world"),
				status(2, 0), status(3, 0), closing(4, "h"), status(4, 0),
			},
			want: []got{whole("sftp", "/tmp/a b\n", "hello world")},
		},
		"empty and unfinished": {
			steps: []step{
				opening(1, "a", toWrite), handleIs(1, "0"), closing(2, "0"), opening(3, "b", toWrite), handleIs(3, "0"), writing(4, "0", 2, "xy"),
			},
			want: []got{whole("sftp", "a", ""), part("sftp", "b", "\x00\x00xy")},
		},
		"a write that the server refused is kept": {
			steps: []step{opening(1, "a", toWrite), handleIs(1, "0"), writing(2, "0", 0, "xy"), status(2, 4), closing(3, "0"), status(3, 4)},
			want:  []got{whole("sftp", "a", "xy")},
		},
		"append ignores offsets": {
			steps: []step{opening(1, "a", toAppend), handleIs(1, "0"), writing(2, "0", 700, "x"), writing(3, "0", 0, "y"), closing(4, "0")},
			want:  []got{whole("sftp", "a", "xy")},
		},
		"the same path twice": {
			steps: []step{
				opening(1, "a", toWrite), handleIs(1, "0"), writing(2, "0", 0, "x"), opening(3, "a", toWrite), handleIs(3, "1"),
				writing(4, "1", 0, "y"), closing(5, "1"), closing(5, "0"),
			},
			want: []got{whole("sftp", "a", "x"), whole("sftp", "a", "y")},
		},
		"reading, listing and a refused open": {
			steps: []step{
				opening(1, "a", toRead), handleIs(1, "0"), writing(2, "0", 0, "x"), in(pkt(byte(11), uint32(3), "/")), handleIs(3, "1"),
				opening(4, "b", toWrite), status(4, 3), writing(5, "2", 0, "x"), closing(6, "1"), closing(6, "9"),
			},
		},
		"answers out of order": {
			steps: []step{
				opening(1, "a", toWrite), opening(2, "b", toWrite), handleIs(2, "b"), handleIs(1, "a"), writing(3, "b", 0, "B"),
				writing(4, "a", 0, "A"), closing(5, "a"), closing(6, "b"),
			},
			want: []got{whole("sftp", "b", "B"), whole("sftp", "a", "A")},
		},
		"an id twice": {
			steps: []step{opening(5, "r", toRead), opening(5, "w", toWrite), handleIs(5, "0"), handleIs(5, "1"), writing(5, "1", 0, "x"), closing(5, "1")},
			want:  []got{whole("sftp", "w", "x")},
		},
		"an id that was answered by another's status": {
			steps: []step{
				in(pkt(byte(17), uint32(5), "nothing")), opening(5, "w", toWrite), status(5, 2), handleIs(5, "0"), writing(5, "0", 0, "x"), closing(5, "0"),
			},
			want: []got{whole("sftp", "", "x")},
		},
		"without waiting": {
			steps: []step{
				opening(1, "a", toWrite), writing(2, "0", 0, "A"), closing(3, "0"), opening(4, "b", toWrite), writing(5, "0", 0, "B"), closing(6, "0"),
				handleIs(1, "0"), status(2, 0), status(3, 0), handleIs(4, "0"), status(5, 0), status(6, 0),
			},
			want: []got{whole("sftp", "a", "A"), whole("sftp", "b", "B")},
		},
		"without waiting, the first was refused": {
			steps: []step{
				opening(1, "no", toWrite), opening(2, "yes", toWrite), writing(3, "0", 0, "A"), status(1, 3), handleIs(2, "0"), writing(4, "0", 1, "B"),
				closing(5, "0"),
			},
			want: []got{whole("sftp", "no", "AB")},
		},
		"without waiting, refused in the middle of a write": {
			steps: []step{
				opening(1, "no", toWrite), in(writing(2, "0", 0, "ABCD").data[:28]), status(1, 3), in(writing(2, "0", 0, "ABCD").data[28:]),
				closing(3, "0"),
			},
			want: []got{part("sftp", "no", "AB")},
		},
		"the second was written to first": {
			steps: []step{
				opening(1, "a", toWrite), opening(2, "b", toWrite), writing(3, "1", 0, "B"), handleIs(1, "0"), handleIs(2, "1"), writing(4, "0", 0, "A"),
				closing(5, "1"), closing(6, "0"),
			},
			want: []got{whole("sftp", "a", "B"), whole("sftp", "a", "A")},
		},
		"a handle that is given twice": {
			steps: []step{
				opening(1, "a", toWrite), handleIs(1, "0"), writing(2, "0", 0, "A"), opening(3, "b", toWrite), handleIs(3, "0"), writing(4, "0", 0, "B"),
				closing(5, "0"),
			},
			want: []got{part("sftp", "a", "A"), whole("sftp", "b", "B")},
		},
		"impossible offsets": {
			steps: []step{
				opening(1, "a", toWrite), handleIs(1, "0"), writing(2, "0", math.MaxUint64, "x"), writing(3, "0", math.MaxInt64, "x"), closing(4, "0"),
			},
			want: []got{whole("sftp", "a", "")},
		},
		"a path that is too long": {
			steps: []step{opening(1, long, toWrite), status(1, 4), opening(2, long[1:], toWrite), handleIs(2, "0"), closing(3, "0")},
			want:  []got{whole("sftp", long[1:], "")},
		},
		"a handle that is too long": {
			steps: []step{opening(1, "a", toWrite), handleIs(1, long[:257]), writing(2, long[:257], 0, "x"), closing(3, long[:257])},
			lost:  true,
		},
		"too many handles":        {steps: many, want: manyWant, lost: true},
		"too many opens":          {steps: floods, lost: true},
		"a packet without a kind": {steps: []step{in("\x00\x00\x00\x00"), opening(1, "a", toWrite), handleIs(1, "0")}, lost: true},
		"a packet too long":       {steps: []step{in("\x00\x04\x04\x01\x06")}, lost: true},
		"a packet too short":      {steps: []step{in("\x00\x00\x00\x09\x06\x00\x00\x00\x01\x00\x00\x00\x01")}, lost: true},
		"a write beyond its packet": {
			steps: []step{
				opening(1, "a", toWrite), handleIs(1, "0"), in("\x00\x00\x00\x17\x06\x00\x00\x00\x02\x00\x00\x00\x010" + strings.Repeat("\x00", 8) + "\x00\x00\x00\x02x"),
			},
			want: []got{part("sftp", "a", "")}, lost: true,
		},
		"no SFTP at all": {steps: []step{in("GET / HTTP/1.1\r\n\r\n")}, lost: true},
		"a server's banner": {
			steps: []step{initIn(), out("Welcome!\n")}, lost: true,
		},
		"data after a write's end": {
			steps: []step{
				opening(1, "a", toWrite), handleIs(1, "0"), in("\x00\x00\x00\x18\x06\x00\x00\x00\x02\x00\x00\x00\x010" + strings.Repeat("\x00", 8) + "\x00\x00\x00\x01xy"),
				closing(3, "0"),
			},
			want: []got{whole("sftp", "a", "x")},
		},
	}
}

func TestSFTP(t *testing.T) {
	t.Parallel()
	for name, c := range sftpCases() {
		for how, play := range map[string]func(tap, []step){"at once": play, "byte by byte": playBytes} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				s := sinks{most: 1 << 20}
				tap := transfer.NewSFTP(s.create)
				play(tap, c.steps)
				tap.In([]byte("late"))
				tap.Out([]byte("late"))
				tap.End()
				want := c.want
				if len(want) == 0 {
					want = nil
				}
				assert.Equal(t, want, s.all(t))
				assert.Equal(t, c.lost, tap.Lost())
			})
		}
	}
}

// session draws a client's session with a server like OpenSSH's and what has to be found in it.
func session(t *rapid.T) (steps []step, want []got) {
	type openFile struct {
		handle string
		i      int
		data   []byte
		append bool
	}
	var open []*openFile
	next := 0
	steps = append(steps, initIn(), initOut())
	request := uint32(0)
	for range rapid.IntRange(0, 40).Draw(t, "steps") {
		request++
		what := rapid.IntRange(0, 4).Draw(t, "what")
		switch {
		case what == 0 && len(open) < 60:
			path := rapid.String().Draw(t, "path")
			f := &openFile{handle: string(binary.BigEndian.AppendUint32(nil, uint32(next))), i: len(want), append: rapid.Bool().Draw(t, "append")}
			next++
			flags := toWrite
			if f.append {
				flags = toAppend
			}
			steps = append(steps, opening(request, path, flags), handleIs(request, f.handle))
			want = append(want, part("sftp", path, ""))
			open = append(open, f)
		case what == 1:
			steps = append(steps, in(pkt(byte(17), request, "x")), status(request, 2))
		case what == 2 && len(open) > 0:
			i := rapid.IntRange(0, len(open)-1).Draw(t, "i")
			steps = append(steps, closing(request, open[i].handle), status(request, 0))
			want[open[i].i].Partial = false
			open = append(open[:i], open[i+1:]...)
		case len(open) > 0:
			f := open[rapid.IntRange(0, len(open)-1).Draw(t, "i")]
			data := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data")
			at := rapid.IntRange(0, 500).Draw(t, "at")
			steps = append(steps, writing(request, f.handle, uint64(at), string(data)), status(request, 0))
			if f.append {
				at = len(f.data)
			}
			if len(data) > 0 {
				f.data = append(f.data, make([]byte, max(0, at+len(data)-len(f.data)))...)
				copy(f.data[at:], data)
			}
			want[f.i].Data = string(f.data)
		}
	}
	return steps, want
}

// TestSFTPPieces: in whatever pieces a session passes, the same files are found.
func TestSFTPPieces(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		steps, want := session(t)
		var s sinks
		tap := transfer.NewSFTP(s.create)
		playCut(t, tap, steps)
		require.Equal(t, want, s.all(t))
		require.False(t, tap.Lost())
	})
}

func FuzzSFTP(f *testing.F) {
	for _, c := range sftpCases() {
		f.Add(unfuzzed(c.steps))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		steps := fuzzed(b)
		once, pieces := sinks{most: 1 << 10}, sinks{most: 1 << 10}
		tap, again := transfer.NewSFTP(once.create), transfer.NewSFTP(pieces.create)
		play(tap, steps)
		playBytes(again, steps)
		require.Equal(t, once.all(t), pieces.all(t))
		require.Equal(t, tap.Lost(), again.Lost())
	})
}
