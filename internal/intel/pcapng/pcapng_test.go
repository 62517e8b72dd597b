package pcapng_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/intel/pcapng"
	"github.com/kokkuri/kokkuri/internal/recording"
)

func began() time.Time { return time.Date(2026, 11, 22, 18, 0, 0, 123456000, time.UTC) }

func header(attacker, target string) recording.Header {
	return recording.Header{
		Session: "0123456789ab", Host: "web", Service: event.Redis, StartedAt: began(),
		Attacker: netip.MustParsePrefix(attacker), Peer: netip.MustParseAddrPort("198.51.100.10:4022"), Target: netip.MustParseAddrPort(target),
	}
}

func recorded(t require.TestingT, h recording.Header, frames ...recording.Frame) *recording.Reader {
	b, err := recording.EncodeHeader(h)
	require.NoError(t, err)
	for _, f := range append(frames, recording.Frame{Kind: recording.End, Offset: 3 * time.Second}) {
		b = recording.AppendFrame(b, f)
	}
	r, err := recording.NewReader(bytes.NewReader(b))
	require.NoError(t, err)
	return r
}

// packet is one that was read back.
type packet struct {
	from, to string
	flags    string
	seq, ack uint32
	data     string
	at       time.Time
}

func packets(t require.TestingT, file []byte) (all []packet) {
	ng, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
	require.NoError(t, err)
	for {
		data, info, err := ng.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		p := gopacket.NewPacket(data, layers.LinkTypeRaw, gopacket.Default)
		require.Nil(t, p.ErrorLayer())
		tcp, ok := p.TransportLayer().(*layers.TCP)
		require.True(t, ok)
		flags := map[bool]string{true: "S"}[tcp.SYN] + map[bool]string{true: "F"}[tcp.FIN] + map[bool]string{true: "."}[tcp.ACK]
		net := p.NetworkLayer().NetworkFlow()
		all = append(all, packet{
			from: net.Src().String() + " " + tcp.SrcPort.String(), to: net.Dst().String() + " " + tcp.DstPort.String(), flags: flags,
			seq: tcp.Seq, ack: tcp.Ack, data: string(tcp.Payload), at: info.Timestamp.UTC(),
		})
	}
}

func TestPacketsAreWhatPassed(t *testing.T) {
	for attacker, target := range map[string]string{"203.0.113.66/32": "203.0.113.10:6379", "2001:db8:1:66::66/128": "[2001:db8:1::10]:6379"} {
		var out bytes.Buffer
		long := strings.Repeat("x", 5000)
		require.NoError(t, pcapng.Write(&out, recorded(
			t, header(attacker, target),
			recording.Frame{Kind: recording.In, Offset: time.Second, Payload: []byte("PING\r\n")},
			recording.Frame{Kind: recording.Note, Offset: time.Second, Payload: []byte(`{}`)},
			recording.Frame{Kind: recording.Out, Offset: 2 * time.Second, Payload: []byte(long)},
		)))
		all := packets(t, out.Bytes())
		var flags []string
		next := map[string]uint32{}
		passed := map[string][]byte{}
		for _, p := range all {
			flags = append(flags, p.flags)
			if want, ok := next[p.from]; ok {
				require.Equal(t, want, p.seq)
			}
			if strings.Contains(p.flags, ".") {
				require.Equal(t, next[p.to], p.ack)
			}
			next[p.from] = p.seq + uint32(len(p.data)+strings.Count(p.flags, "S")+strings.Count(p.flags, "F"))
			passed[p.from] = append(passed[p.from], p.data...)
		}
		assert.Equal(t, []string{"S", "S.", ".", ".", ".", ".", ".", ".", "F.", "F.", "."}, flags)
		assert.Equal(t, began(), all[0].at)
		assert.Equal(t, began().Add(2*time.Second), all[4].at)
		assert.Equal(t, "PING\r\n", string(passed[all[0].from]))
		assert.Equal(t, long, string(passed[all[0].to]))
		assert.True(t, strings.HasPrefix(all[0].from, attacker[:strings.IndexByte(attacker, '/')]+" 4022"), all[0].from)
		assert.Contains(t, all[0].to, "6379")
	}
}

func TestSessionWithoutATarget(t *testing.T) {
	h := header("2001:db8:1:66::/64", "203.0.113.10:3306") // of another family
	h.Peer = netip.MustParseAddrPort("[2001:db8:1:66::5]:4022")
	var out bytes.Buffer
	require.NoError(t, pcapng.Write(&out, recorded(t, h)))
	all := packets(t, out.Bytes())
	require.Len(t, all, 6, "it begins and ends")
	assert.True(t, strings.HasPrefix(all[0].from, "2001:db8:1:66::5 4022"), all[0].from)
	assert.True(t, strings.HasPrefix(all[0].to, ":: 3306"), all[0].to)
}

func TestWhatWasEncryptedIsNone(t *testing.T) {
	err := pcapng.Write(io.Discard, recorded(t, header("203.0.113.66/32", "203.0.113.10:22"), recording.Frame{Kind: recording.Out, Channel: 1, Payload: []byte("$ ")}))
	require.ErrorIs(t, err, pcapng.ErrEncrypted)
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte("PING\r\n"), []byte("+PONG\r\n"), uint64(5), true)
	f.Fuzz(func(t *testing.T, in, out []byte, offset uint64, six bool) {
		h := header("203.0.113.66/32", "203.0.113.10:6379")
		if six {
			h = header("2001:db8::/32", "[2001:db8:1::10]:6379")
		}
		at := time.Duration(offset % uint64(time.Hour))
		var file bytes.Buffer
		require.NoError(t, pcapng.Write(&file, recorded(
			t, h, recording.Frame{Kind: recording.In, Offset: at, Payload: in[:min(len(in), recording.MaxFrame)]},
			recording.Frame{Kind: recording.Out, Offset: at, Payload: out[:min(len(out), recording.MaxFrame)]},
		)))
		var passed []byte
		for _, p := range packets(t, file.Bytes()) {
			passed = append(passed, p.data...)
		}
		assert.Equal(t, string(in)+string(out), string(passed))
	})
}
