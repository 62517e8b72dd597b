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
		require.Len(t, signers, 2)
		for i, s := range signers {
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
	require.Len(t, files, 4)
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

func TestKindsOfKeysFollowThePersona(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	keys, err := hostkeys.Open(path)
	require.NoError(t, err)
	k := key("203.0.113.66/32", "web")
	kinds := []event.HostKeyKind{{Type: "rsa", Bits: 2048}, {Type: "ecdsa", Bits: 521}, {Type: "ed25519", Bits: 256}}
	types := func(keys *hostkeys.Keys) (out []string) {
		signers, err := keys.SignersOf(k, kinds)
		require.NoError(t, err)
		for _, s := range signers {
			out = append(out, s.PublicKey().Type())
		}
		return out
	}
	assert.Equal(t, []string{"ecdsa-sha2-nistp521", "ssh-ed25519"}, types(keys), "nobody waits for an RSA key")
	require.NoError(t, keys.MakeRSA("web", 2048))
	require.NoError(t, keys.MakeRSA("web", 2048))
	assert.Equal(t, []string{"ssh-rsa", "ecdsa-sha2-nistp521", "ssh-ed25519"}, types(keys))
	again, err := hostkeys.Open(path)
	require.NoError(t, err)
	a, err := keys.SignersOf(k, kinds)
	require.NoError(t, err)
	b, err := again.SignersOf(k, kinds)
	require.NoError(t, err)
	for i := range a {
		assert.Equal(t, ssh.FingerprintSHA256(a[i].PublicKey()), ssh.FingerprintSHA256(b[i].PublicKey()))
	}
	files, err := again.FilesOf(k, "web", kinds)
	require.NoError(t, err)
	require.Len(t, files, 6)
	assert.Equal(t, "ssh_host_rsa_key", files[0].Name)
	other, err := keys.SignersOf(k, []event.HostKeyKind{{Type: "rsa", Bits: 4096}})
	require.NoError(t, err)
	assert.Len(t, other, 2, "a machine without any key is none")
}
