package hostkeys_test

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/hostkeys"
)

func key(attacker, host string) event.PotKey {
	return event.PotKey{Attacker: netip.MustParsePrefix(attacker), Host: host}
}

func TestEachAttackerSeesItsOwnKeysAlways(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	keys, err := hostkeys.Open(path)
	require.NoError(t, err)
	again, err := hostkeys.Open(path)
	require.NoError(t, err)
	other, err := hostkeys.Open(filepath.Join(t.TempDir(), "secret"))
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, k := range []event.PotKey{key("203.0.113.66/32", "web"), key("203.0.113.67/32", "web"), key("203.0.113.66/32", "db"), key("2001:db8::/64", "web")} {
		signers, err := keys.Signers(k)
		require.NoError(t, err)
		same, err := again.Signers(k)
		require.NoError(t, err)
		strange, err := other.Signers(k)
		require.NoError(t, err)
		require.Len(t, signers, 3)
		for i, s := range signers {
			if s.PublicKey().Type() == ssh.KeyAlgoRSA { // there are not so many of them
				assert.Equal(t, s.PublicKey().Marshal(), same[i].PublicKey().Marshal(), "also by the next process")
				assert.NotEqual(t, s.PublicKey().Marshal(), strange[i].PublicKey().Marshal(), "not by another node")
				continue
			}
			mark := ssh.FingerprintSHA256(s.PublicKey())
			assert.False(t, seen[mark], "seen before")
			seen[mark] = true
			assert.Equal(t, mark, ssh.FingerprintSHA256(same[i].PublicKey()), "also by the next process")
			assert.NotEqual(t, mark, ssh.FingerprintSHA256(strange[i].PublicKey()), "not by another node")
		}
	}
}

func TestFilesHoldTheKeysThatAreShown(t *testing.T) {
	keys, err := hostkeys.Open(filepath.Join(t.TempDir(), "secret"))
	require.NoError(t, err)
	k := key("203.0.113.66/32", "web")
	signers, err := keys.Signers(k)
	require.NoError(t, err)
	files, err := keys.Files(k, "web")
	require.NoError(t, err)
	require.Len(t, files, 6)
	for i, s := range signers {
		private, public := files[2*i], files[2*i+1]
		assert.Equal(t, os.FileMode(0o600), private.Mode)
		assert.Equal(t, private.Name+".pub", public.Name)
		parsed, err := ssh.ParsePrivateKey(private.Data)
		require.NoError(t, err)
		assert.Equal(t, s.PublicKey().Marshal(), parsed.PublicKey().Marshal())
		line, comment, _, _, err := ssh.ParseAuthorizedKey(public.Data)
		require.NoError(t, err)
		assert.Equal(t, "root@web", comment)
		assert.True(t, bytes.Equal(s.PublicKey().Marshal(), line.Marshal()))
	}
}

// A key of which the file is gone, or damaged, is the same again.
func TestRSAKeysAreDerivedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	keys, err := hostkeys.Open(path)
	require.NoError(t, err)
	k := key("203.0.113.66/32", "web")
	before, err := keys.Signers(k)
	require.NoError(t, err)
	kept, err := filepath.Glob(path + ".rsa.*")
	require.NoError(t, err)
	require.Len(t, kept, 1)
	require.NoError(t, os.WriteFile(kept[0], []byte("cut o"), 0o600))
	keys, err = hostkeys.Open(path)
	require.NoError(t, err)
	after, err := keys.Signers(k)
	require.NoError(t, err)
	assert.Equal(t, before[0].PublicKey().Marshal(), after[0].PublicKey().Marshal())
	assert.Equal(t, ssh.KeyAlgoRSA, after[0].PublicKey().Type())
}

func TestADamagedSecretIsAnErrorThatSaysWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte("short"), 0o600))
	_, err := hostkeys.Open(path)
	require.ErrorContains(t, err, "has 5 bytes instead of 32; remove it")
}

func BenchmarkSigners(b *testing.B) {
	keys, err := hostkeys.Open(filepath.Join(b.TempDir(), "secret"))
	require.NoError(b, err)
	for b.Loop() {
		if _, err := keys.Signers(key("203.0.113.66/32", "web")); err != nil {
			b.Fatal(err)
		}
	}
}
