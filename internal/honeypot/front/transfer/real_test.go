package transfer_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b) // the same each time
	return string(b)
}

func put(t *testing.T, path, data string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(data), 0o644))
}

// tree makes a folder with all sorts of files and returns them by their path within it.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{
		"plain": "hello\n", "empty": "", "with space": "a", "quo'te\"$(id)": "b", "deep/er/still": random(100_000), "deep/é": "c", "\xff\xfe": "d",
		"deep/block": random(32 << 10), "deep/blocks": random(256<<10 + 1),
	}
	for name, data := range files {
		put(t, filepath.Join(dir, name), data)
	}
	return files
}

// found compares files that came with what was sent, whatever their order.
func found(t *testing.T, want, have []got) {
	t.Helper()
	byPath := func(a, b got) int { return strings.Compare(a.Path, b.Path) }
	slices.SortFunc(want, byPath)
	slices.SortFunc(have, byPath)
	require.Len(t, have, len(want))
	for i := range want {
		assert.Equal(t, want[i].Path, have[i].Path)
		assert.Equal(t, want[i].How, have[i].How)
		assert.Equal(t, want[i].Partial, have[i].Partial, "%q", want[i].Path)
		assert.Equal(t, sha256.Sum256([]byte(want[i].Data)), sha256.Sum256([]byte(have[i].Data)), "%q", want[i].Path)
	}
}

func TestRealSFTP(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	files := tree(t, filepath.Join(from, "tree"))
	files["new\nline"] = "e"
	put(t, filepath.Join(from, "tree", "new\nline"), "e")
	put(t, filepath.Join(to, "there"), "0123")
	put(t, filepath.Join(from, "there"), "0123456")
	var s sinks
	lost := sftp(t, &s, to, 0, fmt.Sprintf("put -rp %[1]s/tree\nput %[1]s/there part\nrename part whole\nput -a %[1]s/there there\nls -l\nget whole %[1]s/back\n", from))
	want := []got{whole("sftp", to+"/part", "0123456"), whole("sftp", to+"/there", "456")} // to resume is to append
	for name, data := range files {
		want = append(want, whole("sftp", filepath.Join(to, "tree", name), data))
	}
	found(t, want, s.all(t))
	assert.False(t, lost)
}

func TestRealSFTPLarge(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: it moves 100 MiB; CI runs without")
	}
	from, to := t.TempDir(), t.TempDir()
	data := random(100 << 20)
	put(t, from+"/a", data)
	for _, args := range [][]string{nil, {"-B", "262000", "-R", "1000"}} {
		var s sinks
		lost := sftp(t, &s, to, 0, "put "+from+"/a", args...)
		found(t, []got{whole("sftp", to+"/a", data)}, s.all(t))
		assert.False(t, lost)
	}
}

func TestRealSFTPCut(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	data := random(10 << 20)
	put(t, from+"/a", data)
	var s sinks
	lost := sftp(t, &s, to, 5<<20, "put "+from+"/a")
	cut(t, to+"/a", data, s.all(t))
	assert.False(t, lost)
}

// cut checks that the start of a file came.
func cut(t *testing.T, path, data string, have []got) {
	t.Helper()
	require.Len(t, have, 1)
	assert.Equal(t, path, have[0].Path)
	assert.True(t, have[0].Partial)
	assert.Greater(t, len(have[0].Data), 4<<20)
	assert.True(t, strings.HasPrefix(data, have[0].Data))
}

func TestRealSCP(t *testing.T) {
	t.Parallel()
	for _, options := range [][]string{{"-r"}, {"-r", "-p"}} {
		from, to := t.TempDir(), t.TempDir()
		files := tree(t, filepath.Join(from, "tree"))
		var s sinks
		lost := scp(t, &s, to, 0, false, append(options, from+"/tree", "host:"+to)...)
		want := []got{}
		for name, data := range files {
			want = append(want, whole("scp", filepath.Join(to, "tree", name), data))
		}
		found(t, want, s.all(t))
		assert.False(t, lost)
		same(t, files, filepath.Join(to, "tree"))
	}
}

// same checks what really arrived.
func same(t *testing.T, files map[string]string, dir string) {
	t.Helper()
	for name, data := range files {
		arrived, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, sha256.Sum256([]byte(data)), sha256.Sum256(arrived), "%q", name)
	}
}

func TestRealSCPTargets(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	put(t, from+"/a", "A")
	put(t, from+"/b", "")
	put(t, from+"/d/new\nline", "C")
	require.NoError(t, os.Mkdir(to+"/with space", 0o755))
	for _, c := range []struct {
		args []string
		want []got
	}{
		{[]string{from + "/a", "host:" + to}, []got{whole("scp", to+"/a", "A")}},
		{[]string{from + "/a", "host:"}, []got{whole("scp", "./a", "A")}},
		{[]string{from + "/a", "host:" + to + "/x"}, []got{whole("scp", to+"/x", "A")}},
		{[]string{from + "/a", "host:'with space'"}, []got{whole("scp", "with space/a", "A")}},
		{[]string{from + "/a", from + "/b", "host:" + to}, []got{whole("scp", to+"/a", "A"), whole("scp", to+"/b", "")}},
		{[]string{"-r", from + "/d", "host:" + to + "/named"}, []got{whole("scp", to+`/named/new\^Jline`, "C")}},
		{[]string{"-r", from + "/d", "host:" + to + "/named"}, []got{whole("scp", to+`/named/d/new\^Jline`, "C")}},
	} {
		var s sinks
		lost := scp(t, &s, to, 0, false, c.args...)
		found(t, c.want, s.all(t))
		assert.False(t, lost)
		for _, f := range c.want {
			path := f.Path
			if !filepath.IsAbs(path) {
				path = filepath.Join(to, path)
			}
			arrived, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, f.Data, string(arrived))
		}
	}
}

// TestRealSCPRefused: what can't be written is not sent; what comes after it is found.
func TestRealSCPRefused(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	put(t, from+"/a", "A")
	put(t, from+"/b", random(70_000))
	put(t, from+"/d/x", "X")
	put(t, from+"/e", "E")
	require.NoError(t, os.Mkdir(to+"/b", 0o755)) // a folder in the file's place
	put(t, to+"/d", "a file in the folder's place")
	var s sinks
	lost := scp(t, &s, to, 0, true, "-r", from+"/a", from+"/b", from+"/d", from+"/e", "host:"+to)
	found(t, []got{whole("scp", to+"/a", "A"), whole("scp", to+"/e", "E")}, s.all(t))
	assert.False(t, lost)
}

func TestRealSCPLarge(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: it moves 100 MiB; CI runs without")
	}
	from, to := t.TempDir(), t.TempDir()
	data := random(100 << 20)
	put(t, from+"/a", data)
	var s sinks
	lost := scp(t, &s, to, 0, false, from+"/a", "host:"+to)
	found(t, []got{whole("scp", to+"/a", data)}, s.all(t))
	assert.False(t, lost)
}

func TestRealSCPCut(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	data := random(10 << 20)
	put(t, from+"/a", data)
	var s sinks
	lost := scp(t, &s, to, 5<<20, false, from+"/a", "host:"+to)
	cut(t, to+"/a", data, s.all(t))
	assert.False(t, lost)
}
