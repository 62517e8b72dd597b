package tail

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGlobFinds(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	for _, name := range []string{
		"remote/web/auth.log", "remote/web/auth.log.1", "remote/web/auth.log.2.gz", "remote/db/auth.log", "remote/db/mail.log", "remote/.hidden/auth.log",
		"remote/stray.log", "app/a.log", "app/b.log", "app/a-20261122.log", "app/a.log-20261122", "app/c.log-20261122", "app/.x.log", "app/d.log.7",
		"ip/10.0.0.1", "ip/10.0.0.2", "ip/10.0.0.2.1", "ip/10.0.0.2-20261122", "odd/[x].log", "odd/100%.log",
	} {
		path := filepath.Join(base, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		add(t, path, "x\n")
	}
	require.NoError(t, os.Mkdir(filepath.Join(base, "app/dir.log"), 0o700))
	for pattern, want := range map[string][]string{
		"remote/*/auth.log":        {"remote/db/auth.log", "remote/web/auth.log"},
		"remote/*/auth.log*":       {"remote/db/auth.log", "remote/web/auth.log"},
		"remote/*/*.log":           {"remote/db/auth.log", "remote/db/mail.log", "remote/web/auth.log"},
		"remote/%HOST%/*.log":      {"db remote/db/auth.log", "db remote/db/mail.log", "web remote/web/auth.log"},
		"*/w?b/auth.log":           {"remote/web/auth.log"},
		"remote/*/auth-%Y%m%d.log": {"remote/db/auth-%Y%m%d.log", "remote/web/auth-%Y%m%d.log"},
		"app/*":                    {"app/a.log", "app/b.log"},
		"app/[ab].log":             {"app/a.log", "app/b.log"},
		"app/[^a].log":             {"app/b.log"},
		"ip/*":                     {"ip/10.0.0.1", "ip/10.0.0.2"},
		`odd/\[x\].log`:            {"odd/[x].log"},
		"odd/*":                    {"odd/100%%.log", "odd/[x].log"},
		"none/*/x":                 nil,
	} {
		g, err := parseGlob(filepath.Join(base, pattern))
		require.NoError(t, err, pattern)
		list, cut := g.find(100)
		assert.False(t, cut)
		var got []string
		for _, f := range list {
			rel := strings.TrimPrefix(f.path, literal(base)+"/")
			got = append(got, strings.TrimSpace(f.host+" "+rel))
		}
		assert.Equal(t, want, got, pattern)
	}
}

func TestGlobErrors(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"*.log", "/a/**/b", "/a/[b", `/a/*\`, "/a/%Y/*.log", "/a/*/%Q.log", "/a/x*%HOST%.log", "/%HOST%/*/%HOST%", "/a//*", "/a/*/", "/" + strings.Repeat("*", 900),
	} {
		_, err := NewSet(SetOptions{Options: Options{Path: text}})
		require.ErrorIs(t, err, ErrPattern, text)
	}
}

// TestGlobFollows: files that come later are found and read from their beginning, also those that came while nobody looked;
// rotation makes nothing come twice.
func TestGlobFollows(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	file := func(host string) string {
		require.NoError(t, os.MkdirAll(filepath.Join(base, host), 0o700))
		return filepath.Join(base, host, "auth.log")
	}
	o := SetOptions{Options: Options{Path: filepath.Join(base, "*/auth.log*"), Poll: 5 * time.Millisecond}, Dir: t.TempDir()}
	h := &hosts{}
	k := h.of("")
	add(t, file("web"), "old\n")
	s, stop := startSet(t, o, h)
	eventually(t, "first look", func() bool { return s.Stats().Skipped == 4 })
	add(t, file("web"), "1\n")
	k.untilN(t, 1)
	add(t, file("db"), "2\n")
	k.untilN(t, 2)
	require.NoError(t, os.Rename(file("web"), file("web")+".1"))
	add(t, file("web")+".1", "3\n")
	k.untilN(t, 3)
	add(t, file("web"), "4\n")
	k.untilN(t, 4)
	stop()
	require.NoError(t, os.Rename(file("db"), file("db")+".1"))
	add(t, file("db")+".1", "5\n")
	compress(t, file("db")+".1")
	add(t, file("new"), "6\n")
	_, stop = startSet(t, o, h)
	k.untilN(t, 5)
	add(t, file("db"), "7\n") // with it db's log is found again, and what was not read of its past
	k.untilN(t, 7)
	stop()
	assert.ElementsMatch(t, []string{"1", "2", "3", "4", "5", "6", "7"}, k.got())
}

func TestGlobSaysThatNothingIsThere(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	s, _ := startSet(t, SetOptions{Options: Options{Path: filepath.Join(base, "*.log"), FromHead: true, Poll: 5 * time.Millisecond}, Hosts: 2}, &hosts{})
	eventually(t, "said", func() bool { return len(s.Findings()) == 1 })
	assert.Contains(t, s.Findings()[0].Text, "no such file")
	for _, name := range []string{"a", "b", "c"} {
		add(t, filepath.Join(base, name+".log"), "1\n")
	}
	eventually(t, "bounded", func() bool {
		return len(s.Findings()) == 1 && strings.Contains(s.Findings()[0].Text, "more than 2 hosts or files") && s.Stats().DroppedHost == 1
	})
}

func FuzzParseGlob(f *testing.F) {
	for _, text := range []string{"/var/log/*/auth.log", "/a/[^b]?/%HOST%/x-%Y.log", `/a/\*`, "/*", "/a/[", "/a/%HOST%*"} {
		f.Add(text)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		g, err := parseGlob(dir + text)
		if err != nil {
			require.ErrorIs(t, err, ErrPattern)
			return
		}
		for _, found := range func() []found { out, _ := g.find(10); return out }() {
			_, err := parsePattern(found.path)
			require.NoError(t, err)
		}
	})
}
