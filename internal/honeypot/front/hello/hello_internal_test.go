package hello

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// kexInit makes a KEXINIT packet of lists.
func kexInit(lists ...string) []byte {
	payload := append([]byte{msgKexInit}, make([]byte, 16)...)
	for _, l := range lists {
		payload = binary.BigEndian.AppendUint32(payload, uint32(len(l)))
		payload = append(payload, l...)
	}
	payload = append(payload, 0, 0, 0, 0, 0)
	return packetOf(payload)
}

func packetOf(payload []byte) []byte {
	const padding = 4
	p := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	p = append(p, padding)
	return append(append(p, payload...), make([]byte, padding)...)
}

func hello() []byte {
	return append([]byte("SSH-2.0-Test client\r\n"), kexInit("kex1,kex2", "hk1", "c1,c2", "x", "m1", "x", "none,zlib", "x", "", "x")...)
}

func TestHello(t *testing.T) {
	c, _, done := parseHello(hello())
	require.True(t, done)
	sum := md5.Sum([]byte("kex1,kex2;c1,c2;m1;none,zlib"))
	assert.Equal(t, event.Client{
		Version: "SSH-2.0-Test client", HASSH: hex.EncodeToString(sum[:]), KEX: []event.Bytes{"kex1", "kex2"}, HostKeys: []event.Bytes{"hk1"},
		Ciphers: []event.Bytes{"c1", "c2"}, MACs: []event.Bytes{"m1"}, Compress: []event.Bytes{"none", "zlib"},
	}, c)
}

func TestHelloComesInAnyPieces(t *testing.T) {
	whole := hello()
	for n := range whole {
		_, _, done := parseHello(whole[:n])
		require.False(t, done, "%d bytes", n)
	}
	ignored := append([]byte("SSH-2.0-x\n"), packetOf([]byte{msgIgnore, 1, 2})...)
	c, _, done := parseHello(append(ignored, kexInit("k", "", "c", "", "m", "", "n", "", "", "")...))
	require.True(t, done)
	assert.Equal(t, []event.Bytes{"k"}, c.KEX)
}

func TestWhatIsNoHello(t *testing.T) {
	for _, in := range []string{"GET / HTTP/1.1\r\n", "\r\n", "SSH-\xff" + strings.Repeat("x", 300), "SSH-2.0-x\n\xff\xff\xff\xff\x00", "SSH-2.0-x\n\x00\x00\x00\x01\x09aaaa"} {
		c, _, done := parseHello([]byte(in))
		assert.True(t, done, "%q", in)
		assert.Empty(t, c.HASSH)
	}
}

func FuzzHello(f *testing.F) {
	f.Add(hello(), 5)
	f.Add([]byte("SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x14"), 0)
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"), 3)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		in = in[:min(len(in), maxHello)]
		c, _, done := parseHello(in)
		require.LessOrEqual(t, len(c.Version), maxVersion)
		for _, list := range [][]event.Bytes{c.KEX, c.HostKeys, c.Ciphers, c.MACs, c.Compress, c.Language} {
			require.LessOrEqual(t, len(list), maxNames)
			for _, name := range list {
				require.LessOrEqual(t, len(name), maxName)
			}
		}
		// What is known early stays so.
		cut = max(0, min(cut, len(in)))
		if early, _, settled := parseHello(in[:cut]); settled {
			require.True(t, done)
			require.Equal(t, early, c)
		}
	})
}

// Who grabs a banner says its version, and leaves.
func TestVersionOfWhoLeaves(t *testing.T) {
	for said, want := range map[string][]event.Bytes{
		"SSH-2.0-Go\r\n":         {"SSH-2.0-Go"},
		"SSH-2.0-G":              nil,
		"GET / HTTP/1.0\r\n\r\n": nil,
		string(hello()):          {"SSH-2.0-Test client"}, // once
	} {
		var noted []event.Bytes
		e := New(func(e event.Evidence) { noted = append(noted, e.Client.Version) })
		e.Hear([]byte(said))
		e.End()
		e.End()
		assert.Equal(t, want, noted, said)
	}
}
