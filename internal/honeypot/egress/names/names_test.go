package names_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/kokkuri/kokkuri/internal/honeypot/egress/names"
)

func world() names.World {
	return names.World{Secret: []byte("s"), Now: func() time.Time { return time.Unix(1_800_000_000, 0) }}
}

func machine() names.Machine {
	return names.Machine{
		Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.10"), netip.MustParseAddr("fd00::a")},
		NameOf: func(a netip.Addr) (string, bool) { return "asked.example.com", a.String() == "45.32.1.2" },
	}
}

func query(name string, kind dnsmessage.Type, edns bool) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7, RecursionDesired: true})
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		panic(err)
	}
	if err := b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}); err != nil {
		panic(err)
	}
	if edns {
		_ = b.StartAdditionals()
		var h dnsmessage.ResourceHeader
		_ = h.SetEDNS0(4096, 0, false)
		_ = b.OPTResource(h, dnsmessage.OPTResource{})
	}
	msg, err := b.Finish()
	if err != nil {
		panic(err)
	}
	return msg
}

func ask(t *testing.T, w names.World, name string, kind dnsmessage.Type) (dnsmessage.Message, names.Question) {
	t.Helper()
	out, q, err := w.Answer(query(name, kind, true), false, machine())
	require.NoError(t, err)
	var m dnsmessage.Message
	require.NoError(t, m.Unpack(out))
	assert.Equal(t, uint16(7), m.ID)
	assert.True(t, m.Response && m.RecursionAvailable && m.RecursionDesired)
	return m, q
}

func TestANameIsAlwaysAtTheSamePublicPlace(t *testing.T) {
	w := world()
	special := []string{"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/16", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"}
	seen := map[netip.Addr]string{}
	six := 0
	for i := range 2000 {
		name := fmt.Sprintf("host%d.example.org", i)
		for _, v4 := range []bool{true, false} {
			addrs := w.Addresses(name, v4)
			assert.Equal(t, addrs, w.Addresses(name, v4))
			if v4 {
				require.NotEmpty(t, addrs)
			} else if len(addrs) > 0 {
				six++
			}
			for _, a := range addrs {
				assert.Equal(t, v4, a.Is4())
				assert.True(t, a.IsGlobalUnicast() && !a.IsPrivate(), a)
				for _, s := range special {
					assert.False(t, netip.MustParsePrefix(s).Contains(a), a)
				}
				seen[a] = name
			}
		}
	}
	assert.Greater(t, len(seen), 3000, "different names are at different places")
	assert.InDelta(t, 1000, six, 150)
	other := w
	other.Secret = []byte("other")
	assert.NotEqual(t, w.Addresses("evil.com", true), other.Addresses("evil.com", true), "another node's world is another")
}

func TestEachTypeHasItsAnswer(t *testing.T) {
	w := world()
	for _, c := range []struct {
		name   string
		kind   dnsmessage.Type
		code   string
		answer string // a part of it; empty: none
	}{
		{"Evil.COM.", dnsmessage.TypeA, "NOERROR", w.Addresses("evil.com", true)[0].String()},
		{"evil.com.", dnsmessage.TypeMX, "NOERROR", "evil.com"},
		{"evil.com.", dnsmessage.TypeTXT, "NOERROR", "v=spf1"},
		{"evil.com.", dnsmessage.TypeNS, "NOERROR", "ns1.evil.com"},
		{"evil.com.", dnsmessage.TypeSOA, "NOERROR", "ns1.evil.com"},
		{"evil.com.", dnsmessage.TypeSRV, "NOERROR", ""},
		{"evil.com.", dnsmessage.TypeALL, "NOERROR", "HINFO"},
		{"www.evil.com.", dnsmessage.TypeMX, "NOERROR", ""},
		{"dns.google.", dnsmessage.TypeA, "NOERROR", "8.8.8.8"},
		{"localhost.", dnsmessage.TypeA, "NOERROR", "127.0.0.1"},
		{"localhost.", dnsmessage.TypeAAAA, "NOERROR", "::1"},
		{"web.", dnsmessage.TypeA, "NOERROR", "10.77.0.10"},
		{"web.", dnsmessage.TypeAAAA, "NOERROR", "fd00::a"},
		{"10.0.77.10.in-addr.arpa.", dnsmessage.TypePTR, "NOERROR", "web"},
		{"9.0.77.10.in-addr.arpa.", dnsmessage.TypePTR, "NXDOMAIN", ""},
		{"10.0.77.10.in-addr.arpa.", dnsmessage.TypeA, "NXDOMAIN", ""},
		{"8.8.8.8.in-addr.arpa.", dnsmessage.TypePTR, "NOERROR", "dns.google"},
		{"2.1.32.45.in-addr.arpa.", dnsmessage.TypePTR, "NOERROR", "asked.example.com"},
		{"a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dnsmessage.TypePTR, "NOERROR", "web"},
		{"nosuch.", dnsmessage.TypeA, "NXDOMAIN", ""},
		{"name.notatld.", dnsmessage.TypeA, "NXDOMAIN", ""},
		{"xkqjzvbtrw.com.", dnsmessage.TypeA, "NXDOMAIN", ""},
		{"a1b2c3d4e5f6.net.", dnsmessage.TypeA, "NXDOMAIN", ""},
		{"pool.supportxmr.com.", dnsmessage.TypeA, "NOERROR", w.Addresses("pool.supportxmr.com", true)[0].String()},
		{".", dnsmessage.TypeNS, "NOERROR", "a.root-servers.net"},
	} {
		m, q := ask(t, w, c.name, c.kind)
		assert.Equal(t, c.code, q.Code, "%s %v", c.name, c.kind)
		assert.Equal(t, c.code == "NXDOMAIN", m.RCode == dnsmessage.RCodeNameError)
		if c.answer == "" {
			assert.Empty(t, m.Answers, "%s %v", c.name, c.kind)
			assert.Len(t, m.Authorities, 1, "%s %v: how long there is nothing", c.name, c.kind)
			continue
		}
		require.NotEmpty(t, q.Answer, "%s %v", c.name, c.kind)
		assert.Contains(t, q.Answer[0], c.answer)
		assert.Empty(t, m.Authorities)
		assert.Positive(t, m.Answers[0].Header.TTL)
		assert.Len(t, m.Additionals, 1, "EDNS")
	}
}

func TestNamesThatPeopleUseAreNoNonsense(t *testing.T) {
	for _, label := range []string{
		"google", "supportxmr", "raw", "githubusercontent", "minexmr", "pastebin", "stackoverflow", "wordpress", "cloudfront", "transfer", "ddns",
		"duckdns", "bitbucket", "xn--bcher-kva", "archlinux", "microsoftonline", "hashvault", "crypto-pool", "nanopool", "c3pool", "update-check",
	} {
		assert.False(t, names.Nonsense(label), label)
	}
	for _, label := range []string{"qwrtpsdfgh", "xkqjzvbtrw", "a1b2c3d4e5f6", "zzxcvbnmlkjh", "3f9a1b7c2d"} {
		assert.True(t, names.Nonsense(label), label)
	}
}

func TestWhatIsNoQuestionHasNoAnswer(t *testing.T) {
	w := world()
	for _, msg := range [][]byte{nil, {1, 2, 3}, make([]byte, 5000)} {
		_, _, err := w.Answer(msg, false, machine())
		require.ErrorIs(t, err, names.ErrSilent)
	}
	response := query("evil.com.", dnsmessage.TypeA, false)
	response[2] |= 0x80
	_, _, err := w.Answer(response, false, machine())
	require.ErrorIs(t, err, names.ErrSilent, "two resolvers would answer each other for ever")
	status := query("evil.com.", dnsmessage.TypeA, false)
	status[2] |= 2 << 3
	out, q, err := w.Answer(status, false, machine())
	require.NoError(t, err)
	assert.Equal(t, "NOTIMP", q.Code)
	assert.Equal(t, byte(4), out[3]&15)
}

func TestLongAnswersAreCutByUDPOnly(t *testing.T) {
	w := world()
	msg := query(".", dnsmessage.TypeNS, false)
	whole, _, err := w.Answer(msg, true, machine())
	require.NoError(t, err)
	cut, _, err := w.Answer(msg, false, machine())
	require.NoError(t, err)
	assert.LessOrEqual(t, len(cut), 512)
	assert.Equal(t, len(whole) > 512, binary.BigEndian.Uint16(cut[2:])&0x0200 != 0)
}

func FuzzAnswer(f *testing.F) {
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeTXT, dnsmessage.TypePTR, dnsmessage.TypeALL, 255, 99} {
		f.Add(query("www.evil.com.", kind, true))
		f.Add(query("1.0.0.127.in-addr.arpa.", kind, false))
	}
	f.Add([]byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	w := world()
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, stream := range []bool{false, true} {
			out, _, err := w.Answer(msg, stream, machine())
			if err != nil {
				continue
			}
			var p dnsmessage.Parser
			h, err := p.Start(out)
			if err != nil || !h.Response {
				t.Fatalf("the answer %x is none: %v", out, err)
			}
			if !stream && len(out) > 1232 {
				t.Fatalf("%d bytes by UDP", len(out))
			}
		}
	})
}
