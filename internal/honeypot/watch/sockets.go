package watch

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// socket is a line of /proc/net/tcp or tcp6.
type socket struct {
	local, remote netip.AddrPort
	listens       bool
	uid           uint32
	key           string // the same as long as it is the same
}

// parseSockets reads /proc/net/tcp or tcp6 (proc_net_tcp of the kernel's documentation); what is no socket is skipped.
func parseSockets(text string) []socket {
	const stateListen = "0A"
	var out []socket
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		local, ok := hexAddr(f[1])
		remote, ok2 := hexAddr(f[2])
		if !ok || !ok2 {
			continue
		}
		uid, _ := strconv.ParseUint(f[7], 10, 32)
		out = append(out, socket{local: local, remote: remote, listens: f[3] == stateListen, uid: uint32(uid), key: f[1] + " " + f[2]})
	}
	return out
}

// hexAddr reads an address as /proc/net has it: words in the machine's order, little-endian where we run.
func hexAddr(text string) (netip.AddrPort, bool) {
	host, portHex, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if !ok || err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	addr, ok := netip.AddrFromSlice(raw)
	port, err := strconv.ParseUint(portHex, 16, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), ok && err == nil
}
