package furnish_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/GehirnInc/crypt/sha512_crypt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/honeypot/furnish"
	"github.com/kokkuri/kokkuri/internal/honeypot/hostkeys"
)

// system makes a folder that looks like a machine's root.
func system(t *testing.T) (string, *furnish.Pot) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd":       "root:x:0:0:root:/root:/bin/bash\nmartin:x:1003:1003::/home/martin:/bin/bash",
		"etc/group":        "root:x:0:\nmartin:x:1003:\nstaff:x:1010:\n",
		"etc/shadow":       "root:*:19000:0:99999:7:::\nmartin:!:19000:0:99999:7:::\n",
		"etc/skel/.bashrc": "# skeleton\n",
		"etc/hosts":        "old",
		"etc/hostname":     "old",
		"etc/ssh/config":   "",
	} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640))
	}
	pot, err := furnish.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(pot.Close)
	return dir, pot
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	require.NoError(t, err)
	return string(data)
}

func TestHashIsWhatShadowHolds(t *testing.T) {
	hash, err := furnish.Hash("correct horse")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(hash, "$6$"))
	require.NoError(t, sha512_crypt.New().Verify(hash, []byte("correct horse")))
	require.Error(t, sha512_crypt.New().Verify(hash, []byte("wrong")))
	again, err := furnish.Hash("correct horse")
	require.NoError(t, err)
	assert.NotEqual(t, hash, again, "salted")
	// As the system's own crypt(3) has it.
	salt := strings.Split(hash, "$")[2]
	out, err := exec.CommandContext(t.Context(), "perl", "-e", "print crypt($ARGV[0], $ARGV[1])", "correct horse", "$6$"+salt+"$").Output()
	require.NoError(t, err)
	assert.Equal(t, hash, string(out))
}

func TestAnAccountThatIsThereGetsThePassword(t *testing.T) {
	dir, pot := system(t)
	require.NoError(t, pot.SetAccount("root", "$6$x$y"))
	assert.Equal(t, "root:$6$x$y:19000:0:99999:7:::\nmartin:!:19000:0:99999:7:::\n", read(t, dir, "etc/shadow"))
	info, err := os.Stat(filepath.Join(dir, "etc/shadow"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o640), info.Mode())
	_, err = os.Stat(filepath.Join(dir, "etc/shadow+"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestAnAccountThatIsMissingIsMade(t *testing.T) {
	dir, pot := system(t)
	require.NoError(t, pot.SetAccount("oracle", "$6$x$y"))
	assert.Contains(t, read(t, dir, "etc/passwd"), "martin:x:1003:1003::/home/martin:/bin/bash\noracle:x:1011:1011::/home/oracle:/bin/bash\n")
	assert.Contains(t, read(t, dir, "etc/group"), "oracle:x:1011:\n")
	assert.Contains(t, read(t, dir, "etc/shadow"), "\noracle:$6$x$y:")
	assert.Equal(t, "# skeleton\n", read(t, dir, "home/oracle/.bashrc"))
	var st unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(dir, "home/oracle"), &st))
	assert.Equal(t, []uint32{1011, 1011, 0o700}, []uint32{st.Uid, st.Gid, st.Mode & 0o777})
	require.NoError(t, pot.SetAccount("oracle", "$6$x$z"), "again")
	assert.Equal(t, 1, strings.Count(read(t, dir, "etc/passwd"), "\noracle:x:"))
	for _, bad := range []string{"", "a:b", "a\nb", "../x"} {
		require.Error(t, pot.SetAccount(bad, "$6$x$y"), "%q", bad)
	}
}

func TestNothingIsWrittenOutsideWhateverTheAttackerMakes(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	require.NoError(t, os.WriteFile(victim, []byte("untouched"), 0o600))
	for name, trap := range map[string]func(t *testing.T, dir string){
		"shadow is a link": func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(dir, "etc/shadow")))
			require.NoError(t, os.Symlink(victim, filepath.Join(dir, "etc/shadow")))
		},
		"etc is a link": func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "etc")))
			require.NoError(t, os.Symlink(outside, filepath.Join(dir, "etc")))
		},
		"shadow is a pipe": func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(dir, "etc/shadow")))
			require.NoError(t, unix.Mkfifo(filepath.Join(dir, "etc/shadow"), 0o600))
		},
		"shadow is huge": func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Truncate(filepath.Join(dir, "etc/shadow"), 1<<40))
		},
		"what replaces it is a link": func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Symlink(victim, filepath.Join(dir, "etc/shadow+")))
		},
		"home is a link": func(t *testing.T, dir string) {
			t.Helper()
			require.NoError(t, os.Symlink(outside, filepath.Join(dir, "home")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, pot := system(t)
			trap(t, dir)
			_ = pot.SetAccount("oracle", "$6$x$y") // whether it fails is another matter
			entries, err := os.ReadDir(outside)
			require.NoError(t, err)
			assert.Len(t, entries, 1)
			assert.Equal(t, "untouched", read(t, victim))
		})
	}
}

// A process in a name space of its own stands for the pot's first one.
func TestThePotIsMadeItsMachine(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "unshare", "--uts", "--mount", "--fork", "--kill-child", "sh", "-c",
		"mount -t tmpfs none /etc/ssh 2>/dev/null; echo ready; exec sleep 60")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_, err = out.Read(make([]byte, 16))
	require.NoError(t, err)
	children, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/task/" + strconv.Itoa(cmd.Process.Pid) + "/children")
	require.NoError(t, err)
	pid := strings.Fields(string(children))[0]
	before, err := os.Hostname()
	require.NoError(t, err)
	n, err := strconv.Atoi(pid)
	require.NoError(t, err)
	pot, err := furnish.Open(n)
	require.NoError(t, err)
	defer pot.Close()
	require.NoError(t, pot.SetHostname("web"))
	name, err := exec.CommandContext(t.Context(), "nsenter", "--uts", "-t", pid, "hostname").Output()
	require.NoError(t, err)
	assert.Equal(t, "web\n", string(name))
	after, err := os.Hostname()
	require.NoError(t, err)
	assert.Equal(t, before, after, "the machine keeps its own")
}

func TestFilesOfTheMachine(t *testing.T) {
	dir, pot := system(t)
	for _, f := range []hostkeys.File{{Name: "ssh_host_ed25519_key", Mode: 0o600, Data: []byte("k")}} {
		require.NoError(t, pot.Write("/etc/ssh/"+f.Name, f.Data, f.Mode, 0, 0))
	}
	assert.Equal(t, "k", read(t, dir, "etc/ssh/ssh_host_ed25519_key"))
	hosts := string(furnish.Hosts(furnish.Machine{Hostname: "web", Address: netip.MustParseAddr("10.77.0.10")}))
	assert.Contains(t, hosts, "10.77.0.10\tweb\n")
}
