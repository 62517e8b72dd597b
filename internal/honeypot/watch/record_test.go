package watch

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rawExec builds a record as the kernel's side does.
func rawExec(filename, interp, args string, exe, cwd []string) []byte {
	b := make([]byte, execSize)
	binary.LittleEndian.PutUint32(b, uint32(executed))
	binary.LittleEndian.PutUint32(b[4:], 7)
	binary.LittleEndian.PutUint32(b[headSize:], 1)
	binary.LittleEndian.PutUint32(b[headSize+4:], uint32(len(args)))
	binary.LittleEndian.PutUint32(b[headSize+8:], uint32(len(exe)))
	binary.LittleEndian.PutUint32(b[headSize+12:], uint32(len(cwd)))
	at := headSize + 16
	copy(b[at:at+nameSize-1], filename)
	copy(b[at+nameSize:at+2*nameSize-1], interp)
	at += 2 * nameSize
	copy(b[at:at+argsSize], args)
	at += argsSize
	for n, names := range [][]string{exe, cwd} {
		for i, name := range names {
			copy(b[at+n*pathSize+i*component:at+n*pathSize+(i+1)*component-1], name)
		}
	}
	return b
}

func TestDecodeExecution(t *testing.T) {
	t.Parallel()
	r, err := decode(rawExec("./x", "/bin/sh", "/bin/sh\x00./x\x00\x00", []string{"sh", "bin"}, []string{"x", "tmp"}))
	require.NoError(t, err)
	assert.Equal(t, uint32(7), r.pot)
	assert.Equal(t, &execution{path: "/bin/sh", whole: true, dir: "/tmp/x", filename: "./x", script: true, args: []string{"/bin/sh", "./x", ""}}, r.exec)
	deep := make([]string, maxDepth)
	for i := range deep {
		deep[i] = "d"
	}
	r, err = decode(rawExec("d", "d", "", deep, nil))
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(r.exec.path, "/…/d/d"))
	assert.False(t, r.exec.whole)
	assert.Nil(t, r.exec.args)
	assert.Equal(t, "/", r.exec.dir)
	r, err = decode(rawExec("x", "x", "x", []string{strings.Repeat("n", 200)}, nil))
	require.NoError(t, err)
	assert.False(t, r.exec.whole, "a name that was cut leads nowhere")
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string][]byte{
		"nothing": nil, "a piece": make([]byte, headSize-1), "no kind": make([]byte, execSize), "a cut one": rawExec("", "", "", nil, nil)[:execSize-1],
	} {
		_, err := decode(raw)
		require.ErrorIs(t, err, errRecord, name)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(rawExec("./x", "/bin/sh", "/bin/sh\x00./x\x00", []string{"sh", "bin"}, []string{"tmp"}))
	for _, k := range []kind{exited, connected, listened, 9} {
		b := make([]byte, 64)
		b[0] = byte(k)
		binary.LittleEndian.PutUint32(b[headSize:], 10)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := decode(raw)
		if err != nil {
			return
		}
		if r.exec != nil {
			if !strings.HasPrefix(r.exec.path, "/") || len(r.exec.args) > argsSize || len(r.exec.path) > pathSize+maxDepth+4 {
				t.Fatalf("%+v", r.exec)
			}
		}
	})
}

func FuzzParseSockets(f *testing.F) {
	text, err := os.ReadFile("/proc/self/net/tcp")
	require.NoError(f, err)
	f.Add(string(text))
	f.Add("  0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n")
	f.Add(" 1: 0100007F:115C 0200007F:0016 02 0 0 0 1000 0 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range parseSockets(text) {
			if !s.local.IsValid() || !s.remote.IsValid() {
				t.Fatalf("%+v of %q", s, text)
			}
		}
	})
}

func TestParseSockets(t *testing.T) {
	t.Parallel()
	got := parseSockets(" 1: 0100007F:115C 0200007F:0016 02 00000000:00000000 00:00000000 00000000  1000 0 1\n 2: 00000000:0016 00000000:0000 0A 0 0 0 0 0 1 1\nrubbish\n")
	require.Len(t, got, 2)
	assert.Equal(t, netip.MustParseAddrPort("127.0.0.2:22"), got[0].remote)
	assert.Equal(t, uint32(1000), got[0].uid)
	assert.True(t, got[1].listens)
	assert.Equal(t, uint16(22), got[1].local.Port())
}

func TestFindScript(t *testing.T) {
	t.Parallel()
	for script, e := range map[string]execution{
		"./x":      {path: "/usr/bin/dash", args: []string{"/bin/sh", "./x", "a"}},
		"/tmp/a.p": {path: "/usr/bin/python3.11", args: []string{"python3", "/tmp/a.p"}},
		"":         {path: "/usr/bin/dash", args: []string{"sh", "-c", "/tmp/x"}},
	} {
		e.findScript()
		assert.Equal(t, script != "", e.script)
		assert.Equal(t, script, e.filename)
	}
	for _, e := range []execution{{path: "/bin/cat", args: []string{"cat", "/tmp/x"}}, {path: "/bin/sh"}} {
		e.findScript()
		assert.False(t, e.script)
	}
}

func TestExitOf(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 3, exitOf(3<<8).Status)
	assert.Equal(t, "KILL", exitOf(9).Signal)
	x := exitOf(11 | 0x80)
	assert.Equal(t, "SEGV", x.Signal)
	assert.True(t, x.Core)
}
