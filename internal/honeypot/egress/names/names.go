// Package names answers what pots ask of the domain name system, without asking anybody: every name that
// could be somebody's has addresses, always the same, in networks where servers stand.
package names

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"strings"
	"time"
)

// World is what the names of a node's pots stand for. It has no state: a name has the same answer as long as
// Secret is the same.
type World struct {
	Secret []byte
	Now    func() time.Time // time.Now where nil
}

// Machine is who asks.
type Machine struct {
	Name       string       // its host name
	Addresses  []netip.Addr // its own
	NameOf     func(netip.Addr) (name string, ok bool)
	SearchList []string // domains that are its own network's
}

// sum returns bytes that are a name's for a purpose.
func (w World) sum(purpose, name string) [sha256.Size]byte {
	h := hmac.New(sha256.New, w.Secret)
	h.Write([]byte(purpose + "\x00" + name))
	return [sha256.Size]byte(h.Sum(nil))
}

func (w World) now() time.Time {
	if w.Now != nil {
		return w.Now()
	}
	return time.Now()
}

// hosting4 are networks of which all is given out, mostly to those who rent servers. None holds a special
// address (IANA's registry, RFC 6890).
func hosting4() []string {
	return []string{
		"5.9.0.0/16", "5.39.0.0/17", "23.94.0.0/15", "31.14.40.0/21", "37.120.128.0/17", "45.9.148.0/22", "45.32.0.0/16", "45.76.0.0/15",
		"45.95.168.0/22", "46.101.0.0/16", "51.15.0.0/16", "51.68.0.0/16", "62.210.0.0/16", "64.227.0.0/17", "77.91.64.0/18",
		"78.46.0.0/15", "80.66.64.0/20", "80.94.92.0/22", "82.165.0.0/16", "85.209.8.0/21", "89.248.160.0/20", "91.92.240.0/20", "93.95.224.0/20",
		"94.130.0.0/16", "95.179.128.0/17", "104.168.0.0/17", "107.172.0.0/14", "116.202.0.0/15", "128.199.0.0/16", "134.209.0.0/16",
		"138.68.0.0/16", "139.59.0.0/16", "141.95.0.0/16", "142.93.0.0/16", "144.76.0.0/16", "146.190.0.0/16", "147.135.0.0/16",
		"149.28.0.0/16", "157.90.0.0/16", "159.65.0.0/16", "161.35.0.0/16", "162.19.0.0/16", "165.22.0.0/16", "167.71.0.0/16", "176.9.0.0/16",
		"178.62.0.0/16", "185.161.208.0/22", "185.196.8.0/22", "188.166.0.0/16", "193.32.160.0/22", "194.26.192.0/22", "195.201.0.0/16",
		"205.185.112.0/20", "207.154.192.0/18", "209.141.32.0/19", "213.239.192.0/18", "216.189.144.0/20", "217.160.0.0/16",
	}
}

func hosting6() []string {
	return []string{
		"2001:41d0::/32", "2a01:4f8::/32", "2a01:4f9::/32", "2a03:b0c0::/32", "2604:a880::/32", "2001:19f0::/32", "2a02:c207::/32",
		"2607:5300::/32", "2a05:d018::/35", "2600:3c00::/29", "2a0b:f4c0::/29",
	}
}

// known are names that people know the networks of.
func known() []struct{ domain, v4, v6 string } {
	return []struct{ domain, v4, v6 string }{
		{"dns.google", "8.8.8.8/32", "2001:4860:4860::8888/128"},
		{"one.one.one.one", "1.1.1.1/32", "2606:4700:4700::1111/128"},
		{"google.com", "142.250.0.0/15", "2a00:1450::/32"},
		{"googleapis.com", "142.250.0.0/15", "2a00:1450::/32"},
		{"gstatic.com", "142.250.0.0/15", "2a00:1450::/32"},
		{"youtube.com", "142.250.0.0/15", "2a00:1450::/32"},
		{"github.com", "140.82.112.0/20", ""},
		{"githubusercontent.com", "185.199.108.0/22", "2606:50c0::/32"},
		{"cloudflare.com", "104.16.0.0/13", "2606:4700::/32"},
		{"pastebin.com", "104.20.0.0/15", "2606:4700::/32"},
		{"ngrok.io", "3.16.0.0/14", ""},
		{"amazonaws.com", "52.216.0.0/14", ""},
		{"microsoft.com", "20.112.0.0/14", "2603:1030::/32"},
		{"facebook.com", "157.240.0.0/17", "2a03:2880::/32"},
		{"yahoo.com", "74.6.0.0/16", "2001:4998::/32"},
		{"telegram.org", "149.154.160.0/20", "2001:67c:4e8::/48"},
		{"debian.org", "151.101.0.0/16", "2a04:4e40::/32"},
		{"ubuntu.com", "91.189.88.0/21", "2620:2d:4000::/48"},
		{"wikipedia.org", "185.15.56.0/22", "2a02:ec80::/32"},
	}
}

// Addresses returns those of a name in lower case without its last dot, IPv4 or IPv6; there may be none of IPv6.
func (w World) Addresses(name string, v4 bool) []netip.Addr {
	for _, k := range known() {
		if name == k.domain || strings.HasSuffix(name, "."+k.domain) {
			network := k.v6
			if v4 {
				network = k.v4
			}
			if network == "" {
				return nil
			}
			return []netip.Addr{w.pick(network, name)}
		}
	}
	s := w.sum("address", name)
	networks := hosting4()
	if !v4 {
		if s[0]&1 == 0 { // half of the world has no IPv6
			return nil
		}
		networks = hosting6()
	}
	network := networks[int(binary.BigEndian.Uint16(s[2:]))%len(networks)]
	out := []netip.Addr{w.pick(network, name)}
	if s[1]%5 == 0 {
		out = append(out, w.pick(network, name+" again"))
	}
	return out
}

// pick returns an address of a network that looks like a server's.
func (w World) pick(network, name string) netip.Addr {
	p := netip.MustParsePrefix(network) // of our own lists
	s := w.sum("place", name)
	a := p.Addr().AsSlice()
	if p.IsSingleIP() {
		return p.Addr()
	}
	random := s[:len(a)]
	for i := range a {
		free := 8*(i+1) - p.Bits() // bits of this byte that the network leaves open
		switch {
		case free >= 8:
			a[i] = random[i]
		case free > 0:
			a[i] |= random[i] & (1<<free - 1)
		}
	}
	if last := len(a) - 1; len(a) == 4 {
		a[last] = 2 + a[last]%250
	} else { // as people number them
		clear(a[8:last])
		a[last-1] &= 3
		a[last] |= 1
	}
	addr, _ := netip.AddrFromSlice(a)
	return addr
}

// TTL returns how many seconds an answer about a name is still good for, as a resolver says that has had it for a while.
func (w World) TTL(name string) uint32 {
	s := w.sum("ttl", name)
	whole := []int64{60, 300, 300, 600, 1800, 3600, 14400}[int(s[0])%7]
	offset := int64(binary.BigEndian.Uint16(s[1:]))
	return uint32(whole - (w.now().Unix()+offset)%whole)
}
