package transfer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/transfer"
)

const (
	yes  = "\x00"
	no   = "\x01scp: no\n"
	done = "\x00"
)

func isFolder(yes bool) func(string) bool { return func(string) bool { return yes } }

type scpCase struct {
	steps  []step
	folder bool
	isDir  func(string) bool
	want   []got
	lost   bool
}

func scpCases() map[string]scpCase {
	return map[string]scpCase{
		"one file": {
			isDir: isFolder(false),
			steps: []step{out(yes), in("C0644 5 x y\n"), out(yes), in("hello" + done), out(yes)},
			want:  []got{whole("scp", "/tmp", "hello")},
		},
		"into a folder": {
			isDir: isFolder(true),
			steps: []step{
				out(yes), in("T1 0 1 0\n"), out(yes), in("C0644 5 x y\n"), out(yes), in("hello" + done), out(yes), in("C0600 0 e\n"), out(yes), in(done), out(yes),
			},
			want: []got{whole("scp", "/tmp/x y", "hello"), whole("scp", "/tmp/e", "")},
		},
		"-d": {folder: true, steps: []step{out(yes), in("C0644 1 x\n"), out(yes), in("h" + done)}, want: []got{whole("scp", "/tmp/x", "h")}},
		"nobody knows what the target is": {
			steps: []step{out(yes), in("C0644 1 x\n"), out(yes), in("h" + done), out(yes), in("C0644 1 y\n"), out(yes), in("i" + done)},
			want:  []got{whole("scp", "/tmp", "h"), whole("scp", "/tmp/y", "i")},
		},
		"folders": {
			steps: []step{
				out(yes), in("D0755 0 a\n"), out(yes), in("D0755 0 b\n"), out(yes), in("C0644 1 x\n"), out(yes), in("1" + done), out(yes), in("E\n"), out(yes),
				in("C0644 1 y\n"), out(yes), in("2" + done), out(yes), in("E\n"), out(yes), in("C0644 1 z\n"), out(yes), in("3" + done), out(yes),
			},
			want: []got{whole("scp", "/tmp/a/b/x", "1"), whole("scp", "/tmp/a/y", "2"), whole("scp", "/tmp/z", "3")},
		},
		"a folder under a new name": {
			isDir: isFolder(false),
			steps: []step{out(yes), in("D0755 0 a\n"), out(yes), in("C0644 1 x\n"), out(yes), in("1" + done), out(yes), in("E\n")},
			want:  []got{whole("scp", "/tmp/x", "1")},
		},
		"refused": {
			folder: true,
			steps: []step{
				out(yes), in("C0644 5 x\n"), out("\x01scp: x: Permission denied\n"), in("D0755 0 d\n"), out(no), in("C0644 1 y\n"), out(yes), in("1" + done), out(yes),
			},
			want: []got{whole("scp", "/tmp/y", "1")},
		},
		"cut":                 {folder: true, steps: []step{out(yes), in("C0644 5 x\n"), out(yes), in("hel")}, want: []got{part("scp", "/tmp/x", "hel")}},
		"cut before the file": {folder: true, steps: []step{out(yes), in("C0644 5 x\n")}},
		"cut after the consent": {
			folder: true, steps: []step{out(yes), in("C0644 5 x\n"), out(yes)}, want: []got{part("scp", "/tmp/x", "")},
		},
		"cut after the content": {
			folder: true, steps: []step{out(yes), in("C0644 5 x\n"), out(yes), in("hello")}, want: []got{whole("scp", "/tmp/x", "hello")},
		},
		"the source could not read it": {
			folder: true,
			steps:  []step{out(yes), in("C0644 5 x\n"), out(yes), in("he\x00\x00\x00\x01scp: Input/output error\n"), out(yes), in("\x01scp: y: no\nC0644 1 z\n"), out(yes), in("1" + done)},
			want:   []got{part("scp", "/tmp/x", "he\x00\x00\x00"), whole("scp", "/tmp/z", "1")},
		},
		"without waiting": {
			isDir: isFolder(false),
			steps: []step{in("C0755 5 x\nhello" + done), out(yes + yes + yes)},
			want:  []got{whole("scp", "/tmp", "hello")},
		},
		"two without waiting, and a shell's greeting": {
			folder: true,
			steps:  []step{in("C0755 5 x\nhello" + done + "C0755 0 y\n" + done), out("Welcome\n" + yes + yes + no + yes + yes), in("E\n")},
			want:   []got{whole("scp", "/tmp/x", "hello"), whole("scp", "/tmp/y", "")},
		},
		"refused without waiting": {
			folder: true, steps: []step{in("C0755 5 x\nhel"), out(yes + no), in("lo" + done)}, want: []got{part("scp", "/tmp/x", "hel")}, lost: true,
		},
		"a folder refused without waiting": {folder: true, steps: []step{in("D0755 0 x\nC0644 0 y\n"), out(yes + no), in(done)}, lost: true},
		"the source gives up":              {folder: true, steps: []step{out(yes), in("\x02fatal\nC0644 0 x\n\x00")}},
		"the end":                          {folder: true, steps: []step{out(yes), in("E\nC0644 0 x\n\x00")}},
		"a name with a slash":              {folder: true, steps: []step{out(yes), in("C0644 0 ../x\n")}, lost: true},
		"no name":                          {folder: true, steps: []step{out(yes), in("C0644 0 \n")}, lost: true},
		"dots":                             {folder: true, steps: []step{out(yes), in("D0755 0 ..\n")}, lost: true},
		"no size":                          {folder: true, steps: []step{out(yes), in("C0644 -1 x\n")}, lost: true},
		"a size beyond all":                {folder: true, steps: []step{out(yes), in("C0644 9223372036854775808 x\n")}, lost: true},
		"no mode":                          {folder: true, steps: []step{out(yes), in("C0648 1 x\n")}, lost: true},
		"an empty line":                    {folder: true, steps: []step{out(yes), in("\n")}, lost: true},
		"no scp":                           {folder: true, steps: []step{out(yes), in("GET / HTTP/1.1\r\n")}, lost: true},
		"a line without end":               {folder: true, steps: []step{out(yes), in("C" + strings.Repeat("0", 9000))}, lost: true},
		"a name's end in C":                {folder: true, steps: []step{out(yes), in("C0644 0 x\x00y\n"), out(yes), in(done)}, want: []got{whole("scp", "/tmp/x", "")}},
		"too deep":                         {folder: true, steps: []step{in(strings.Repeat("D0755 0 x\n", 257))}, lost: true},
		"nobody replies":                   {folder: true, steps: []step{in(strings.Repeat("T0 0 0 0\n", 4096))}, lost: true},
	}
}

func TestSCP(t *testing.T) {
	t.Parallel()
	for name, c := range scpCases() {
		for how, play := range map[string]func(tap, []step){"at once": play, "byte by byte": playBytes} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				var s sinks
				tap := transfer.NewSCP("/tmp", c.folder, s.create, c.isDir)
				play(tap, c.steps)
				tap.In([]byte("C0644 0 late\n\x00"))
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

func TestSCPTargets(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{"/": "/x", "/tmp/": "/tmp/x", ".": "./x", "~": "~/x", "a b": "a b/x"} {
		var s sinks
		play(transfer.NewSCP(target, true, s.create, nil), []step{in("C0644 0 x\n" + done)})
		assert.Equal(t, []got{whole("scp", want, "")}, s.all(t))
	}
}

// sending draws a source's session; some clients don't wait for the replies.
func sending(t *rapid.T) (steps []step, want []got) {
	waits := rapid.Bool().Draw(t, "waits")
	answers := ""
	ask := func(in, reply string) {
		steps = append(steps, step{false, in})
		if waits {
			steps = append(steps, step{true, reply})
		} else {
			answers += reply
		}
	}
	steps = append(steps, out(yes))
	folders := []string{"/tmp"}
	for i := range rapid.IntRange(0, 30).Draw(t, "records") {
		here, name := folders[len(folders)-1], fmt.Sprintf("%d %s", i, rapid.StringMatching(`[^/\n\x00]{0,20}`).Draw(t, "name"))
		refused := waits && rapid.IntRange(0, 5).Draw(t, "refused") == 0
		switch rapid.IntRange(0, 5).Draw(t, "what") {
		case 0:
			if refused {
				ask("D0755 0 "+name+"\n", no)
				continue
			}
			ask("D0755 0 "+name+"\n", yes)
			folders = append(folders, here+"/"+name)
		case 1:
			if len(folders) > 1 {
				ask("E\n", yes)
				folders = folders[:len(folders)-1]
			}
		case 2:
			ask("T1 0 1 0\n", yes)
		default:
			data := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data")
			line := fmt.Sprintf("C0644 %d %s\n", len(data), name)
			if refused {
				ask(line, no)
				continue
			}
			ask(line, yes)
			failed := rapid.IntRange(0, 5).Draw(t, "failed") == 0
			end := done
			if failed {
				end = no
			}
			ask(string(data)+end, yes)
			want = append(want, got{How: "scp", Path: here + "/" + name, Data: string(data), Closed: 1, Partial: failed})
		}
	}
	return append(steps, out(answers)), want
}

// TestSCPPieces: in whatever pieces a session passes, the same files are found.
func TestSCPPieces(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		steps, want := sending(t)
		var s sinks
		tap := transfer.NewSCP("/tmp", true, s.create, nil)
		playCut(t, tap, steps)
		require.Equal(t, want, s.all(t))
		require.False(t, tap.Lost())
	})
}

func FuzzSCP(f *testing.F) {
	for _, c := range scpCases() {
		f.Add(c.folder, unfuzzed(c.steps))
	}
	f.Fuzz(func(t *testing.T, folder bool, b []byte) {
		steps := fuzzed(b)
		once, pieces := sinks{most: 1 << 10}, sinks{most: 1 << 10}
		tap, again := transfer.NewSCP("/tmp", folder, once.create, nil), transfer.NewSCP("/tmp", folder, pieces.create, nil)
		play(tap, steps)
		playBytes(again, steps)
		require.Equal(t, once.all(t), pieces.all(t))
		require.Equal(t, tap.Lost(), again.Lost())
		for _, f := range once.all(t) {
			require.LessOrEqual(t, len(f.Path), 4096)
		}
	})
}
