package door

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

func sessionFields(command string) []string {
	return []string{msgSession, "exec", command, "tty", "xterm", "80", "24", "0", "0", "1", "2", "3", "4", "0304", "agent", "LANG=C", "odd", "LC_X=a=b"}
}

func TestMessagesAreWhatTheySay(t *testing.T) {
	for name, c := range map[string]struct {
		fields []string
		want   any
	}{
		"door":   {[]string{msgDoor}, msgDoor},
		"guess":  {[]string{msgAuth, "10000", "password", "root", "p w"}, guess{10000, "password", "root", "p w"}},
		"open":   {[]string{msgOpen, "59999"}, uint32(59999)},
		"key":    {[]string{msgKey, "10001", "ssh-rsa", "AAAA", "root"}, offer{10001, "ssh-rsa", "AAAA", "root"}},
		"exit":   {[]string{msgExit, "10000", "256"}, exit{10000, 256}},
		"window": {[]string{msgWindow, "80", "24", "0", "1"}, window{80, 24, 0, 1}},
		"signal": {[]string{msgSignal, "INT"}, signal("INT")},
		"gone":   {[]string{msgGone, ""}, msgGone},
		"session": {sessionFields("id"), start{
			what: "exec", command: "id", terminal: true, term: "xterm", window: window{80, 24, 0, 0},
			modes: modes{1, 2, 3, 4, []byte{3, 4}}, agent: true, env: []variable{{"LANG", "C"}, {"LC_X", "a=b"}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			fields, err := decode(encode(c.fields...))
			require.NoError(t, err)
			got, err := parse(fields)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestWhatIsNoMessage(t *testing.T) {
	for _, fields := range [][]string{
		{""},
		{"?"},
		{msgAuth, "10000", "password", "root"},
		{msgAuth, "0", "password", "root", "x"},
		{msgOpen, "9999"},
		{msgOpen, "-1"},
		{msgExit, "10000", "-1"},
		{msgWindow, "1", "2", "3"},
		{msgWindow, "1", "2", "3", "4294967296"},
		{msgSignal, "TOOLONGSIGNAL"},
		{msgSession},
		append(sessionFields("x")[:1], "subsystem"), sessionFields("x")[:14], append(sessionFields("x"), make([]string, 300)...),
	} {
		_, err := parse(fields)
		require.ErrorIs(t, err, errMessage, "%q", fields)
	}
	for _, b := range [][]byte{nil, []byte("door"), make([]byte, maxMessage+1)} {
		_, err := decode(b)
		require.ErrorIs(t, err, errMessage)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(encode(sessionFields("id")...))
	f.Add(encode(msgAuth, "10000", "password", "root", "x"))
	f.Add(encode(msgKey, "10000", "t", "k", "a"))
	f.Add([]byte("\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fields, err := decode(b)
		if err != nil {
			return
		}
		got, err := parse(fields)
		if err != nil {
			return
		}
		if s, ok := got.(start); ok {
			require.LessOrEqual(t, len(s.env), maxVariables)
			require.NotEmpty(t, s.modes.encode())
		}
	})
}

// What sshd logs of forwarding, as OpenSSH 9.2 did, is told as the builtin front tells it.
func TestWhatSshdSaidIsNoted(t *testing.T) {
	var got []string
	s := &said{words: newWords(), number: func() uint32 { return 1 }, note: func(e event.Evidence) {
		f := *e.Forward
		got = append(got, fmt.Sprintf("%s %s %d %v", f.What, f.Destination, f.Port, f.Refused))
	}}
	s.read(strings.NewReader(strings.ReplaceAll(`debug1: server_request_direct_tcpip: originator 127.0.0.1 port 53422, target 127.0.0.1 port 80
debug1: server_request_direct_tcpip: originator x port 1, target evil port 9, target 10.0.0.1 port 443
debug1: channel 1: connected to 127.0.0.1 port 80
error: connect_to evil port 9, target 10.0.0.1 port 443: failed.
debug1: server_request_direct_tcpip: originator 127.0.0.1 port 1, target no.such port 25
error: connect_to no.such: unknown host (Name or service not known)
debug1: server_input_global_request: tcpip-forward listen localhost port 8080
debug1: Local forwarding listening on 127.0.0.1 port 8080.
debug1: Connection to port 8080 forwarding to localhost port 80 requested.
debug1: server_input_global_request: cancel-tcpip-forward addr localhost port 8080
debug1: server_input_global_request: tcpip-forward listen 10.9.9.9 port 80
error: channel_setup_fwd_listener_tcpip: cannot listen to port: 80
debug1: server_request_direct_streamlocal: originator 127.0.0.1 port 2, target /run/x.sock
error: connect_to /run/x.sock port -2: failed.
debug1: server_request_direct_tcpip: originator 127.0.0.1 port 3, target 192.0.2.9 port 22
`+strings.Repeat("x", 3*maxLine)+`
`, "\n", "\r\n")))
	assert.Equal(t, []string{
		"direct-tcpip 127.0.0.1 80 false", "direct-tcpip no.such 25 true", "tcpip-forward localhost 8080 false",
		"forwarded-tcpip  8080 false", "cancel-tcpip-forward localhost 8080 false", "tcpip-forward 10.9.9.9 80 true",
		"direct-streamlocal@openssh.com /run/x.sock 0 true",
		"direct-tcpip 10.0.0.1 443 true", // its destination was made up to be misread: it was never connected, which is true
		"direct-tcpip 192.0.2.9 22 true",
	}, got)
}

func FuzzSaid(f *testing.F) {
	f.Add("debug1: server_request_direct_tcpip: originator a port 1, target b port 2\r\nerror: connect_to b port 2: failed.\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		s := &said{words: newWords(), number: func() uint32 { return 1 }, note: func(e event.Evidence) {
			n++
			require.LessOrEqual(t, len(e.Forward.Destination), maxAddress)
		}}
		s.read(strings.NewReader(text))
		require.LessOrEqual(t, n, strings.Count(text, "\n")+1)
	})
}

// OpenSSH's should_drop_connection (sshd.c), in numbers.
func TestStartupsAreRefusedAsOpenSSHDoes(t *testing.T) {
	s := Startups{Begin: 10, Rate: 30, Full: 100}
	for others, percent := range map[int]int{0: 0, 9: 0, 10: 30, 55: 65, 99: 99, 100: 100, 500: 100} {
		refused := 0
		for i := range 100 {
			if s.refuses(others, func() int { return i }) {
				refused++
			}
		}
		assert.Equal(t, percent, refused, "beside %d", others)
	}
	l := newLobby()
	k := event.PotKey{Attacker: netip.MustParsePrefix("203.0.113.66/32"), Host: "web"}
	bounds := Startups{Begin: 2, Rate: 100, Full: 2}
	leave, ok := l.enter(k, bounds)
	require.True(t, ok)
	_, ok = l.enter(k, bounds)
	require.True(t, ok)
	_, ok = l.enter(k, bounds)
	require.False(t, ok)
	_, ok = l.enter(event.PotKey{Attacker: k.Attacker, Host: "db"}, bounds)
	require.True(t, ok, "another host has room")
	leave()
	leave()
	_, ok = l.enter(k, bounds)
	require.True(t, ok)
}

// A terminal's modes are named as OpenSSH names them (ttymodes.h).
func TestModesOfATerminal(t *testing.T) {
	chars := make([]byte, 19)
	chars[unix.VINTR], chars[unix.VEOF] = 3, 4
	b := []byte(modes{in: unix.ICRNL, out: unix.OPOST, control: unix.CS8, local: unix.ECHO, chars: chars}.encode())
	got := map[byte]uint32{}
	for len(b) > 1 {
		got[b[0]] = binary.BigEndian.Uint32(b[1:])
		b = b[5:]
	}
	require.Equal(t, []byte{opEnd}, b)
	for op, want := range map[byte]uint32{1: 3, 5: 4, 2: 255, 36: 1, 34: 0, 53: 1, 51: 0, 70: 1, 72: 0, 91: 1, 90: 0, 128: 38400} {
		assert.Equal(t, want, got[op], "mode %d", op)
	}
	assert.Equal(t, "\x00", modes{}.encode())
}

func TestTypesOfService(t *testing.T) {
	p := func(v string) event.PersonaSSH { return event.PersonaSSH{Settings: map[string]string{"ipqos": v}} }
	assert.Equal(t, 0x48, tosOf(event.PersonaSSH{}, true))
	assert.Equal(t, 0x20, tosOf(event.PersonaSSH{}, false))
	assert.Equal(t, 0x10, tosOf(p("lowdelay throughput"), true))
	assert.Equal(t, 0x08, tosOf(p("lowdelay throughput"), false))
	assert.Equal(t, 0xb8, tosOf(p("ef cs0"), true))
	assert.Equal(t, 0, tosOf(p("none"), false))
	assert.Equal(t, 0x48, tosOf(p("nonsense"), true))
}

// A persona's settings are the door's; what would lead past the node is never.
func TestSettings(t *testing.T) {
	text := configOf([]string{"password"}, event.PersonaSSH{
		Settings: map[string]string{
			"ciphers": "aes256-ctr", "maxauthtries": "3", "kbdinteractiveauthentication": "yes", "permitrootlogin": "no", "subsystem": "sftp internal-sftp",
			"x11forwarding": "yes", "usepam": "no", "loglevel": "QUIET", "macs": "hmac-sha2-256\nPermitTunnel yes",
		}, AcceptEnv: []string{"FOO"},
	}, "/run/door/s", "mark")
	lines := strings.Split(text, "\n")
	for _, want := range []string{
		"ciphers aes256-ctr", "maxauthtries 3", "ChallengeResponseAuthentication yes", "passwordauthentication yes", "UsePAM yes",
		"Subsystem sftp mark sftp", "AcceptEnv FOO", "LogLevel DEBUG1", "X11Forwarding no", "PermitTunnel no", "PermitRootLogin yes",
	} {
		assert.Contains(t, lines, want)
	}
	for _, no := range []string{"internal-sftp", "QUIET", "PermitTunnel yes", "macs", "usepam no"} {
		assert.NotContains(t, text, no)
	}
	assert.Equal(t, Startups{Begin: 3, Rate: 50, Full: 9}, startupsOf(event.PersonaSSH{Settings: map[string]string{"maxstartups": "3:50:9"}}, Startups{}))
	assert.Equal(t, Startups{Begin: 7, Rate: 100, Full: 7}, startupsOf(event.PersonaSSH{Settings: map[string]string{"maxstartups": "7"}}, Startups{}))
	assert.Equal(t, Startups{Begin: 1}, startupsOf(event.PersonaSSH{}, Startups{Begin: 1}))
}

// In the anteroom a connection comes from wherever it is to come from, by both families, and two at once from one port.
func TestAnteroom(t *testing.T) {
	a, err := newAnteroom()
	require.NoError(t, err)
	defer a.close()
	for _, ends := range [][2]string{{"203.0.113.66:4022", "203.0.113.10:22"}, {"[2001:db8:1:66::66]:4022", "[2001:db8:1:10::10]:2222"}} {
		from, to := netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])
		client, server, err := a.pair(from, to)
		require.NoError(t, err)
		defer client.Close() //nolint:errcheck // a test's connection
		defer server.Close() //nolint:errcheck // a test's connection
		peer, err := unix.Getpeername(int(server.Fd()))
		require.NoError(t, err)
		switch p := peer.(type) {
		case *unix.SockaddrInet4:
			assert.Equal(t, from, netip.AddrPortFrom(netip.AddrFrom4(p.Addr), uint16(p.Port)))
		case *unix.SockaddrInet6:
			assert.Equal(t, from, netip.AddrPortFrom(netip.AddrFrom16(p.Addr), uint16(p.Port)))
		}
		_, err = client.Write([]byte("x"))
		require.NoError(t, err)
		buf := make([]byte, 2)
		n, err := server.Read(buf)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		again, other, err := a.pair(from, to)
		require.NoError(t, err, "its port is taken")
		require.NoError(t, again.Close())
		require.NoError(t, other.Close())
	}
	_, _, err = a.pair(netip.MustParseAddrPort("203.0.113.66:1"), netip.MustParseAddrPort("[::1]:22"))
	require.Error(t, err)
	for range 3 * maxListeners { // ports of many hosts, one after the other
		client, server, err := a.pair(netip.MustParseAddrPort("203.0.113.66:0"), netip.AddrPortFrom(netip.MustParseAddr("203.0.113.10"), uint16(1024+rand.IntN(60000))))
		require.NoError(t, err)
		require.NoError(t, client.Close())
		require.NoError(t, server.Close())
	}
	assert.LessOrEqual(t, len(a.listeners), maxListeners)
}
