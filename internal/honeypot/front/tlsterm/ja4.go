package tlsterm

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Extensions of TLS that JA4 treats apart (RFC 6066, RFC 7301).
const (
	extServerName = 0
	extALPN       = 16
)

// JA4 returns the fingerprint of a client's hello as FoxIO describes it (JA4, TLS over TCP).
func JA4(h *tls.ClientHelloInfo) string {
	ciphers, extensions := known(h.CipherSuites), known(h.Extensions)
	name, alpn := byte('i'), "00"
	if slices.Contains(extensions, extServerName) {
		name = 'd'
	}
	if len(h.SupportedProtos) > 0 && h.SupportedProtos[0] != "" {
		alpn = ends(h.SupportedProtos[0])
	}
	head := fmt.Sprintf("t%s%c%02d%02d%s", version(known(h.SupportedVersions)), name, min(len(ciphers), 99), min(len(extensions), 99), alpn)
	extensions = slices.DeleteFunc(extensions, func(e uint16) bool { return e == extServerName || e == extALPN })
	slices.Sort(ciphers)
	slices.Sort(extensions)
	schemes := make([]uint16, 0, len(h.SignatureSchemes))
	for _, s := range h.SignatureSchemes {
		schemes = append(schemes, uint16(s))
	}
	rest := list(extensions)
	if schemes = known(schemes); len(schemes) > 0 {
		rest += "_" + list(schemes)
	}
	return head + "_" + digest(len(ciphers), list(ciphers)) + "_" + digest(len(extensions), rest)
}

// known leaves out what clients only send so that servers get used to what they don't know (RFC 8701).
func known(values []uint16) []uint16 {
	return slices.DeleteFunc(slices.Clone(values), func(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff })
}

func version(all []uint16) string {
	if len(all) == 0 {
		return "00"
	}
	switch slices.Max(all) {
	case tls.VersionTLS13:
		return "13"
	case tls.VersionTLS12:
		return "12"
	case tls.VersionTLS11:
		return "11"
	case tls.VersionTLS10:
		return "10"
	case 0x0300:
		return "s3"
	}
	return "00"
}

// ends are a protocol's first and last character, or of its hexadecimal digits where one is no letter and no digit.
func ends(protocol string) string {
	plain := func(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	first, last := protocol[0], protocol[len(protocol)-1]
	if plain(first) && plain(last) {
		return string([]byte{first, last})
	}
	digits := hex.EncodeToString([]byte(protocol))
	return digits[:1] + digits[len(digits)-1:]
}

func list(values []uint16) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprintf("%04x", v)
	}
	return strings.Join(out, ",")
}

func digest(n int, text string) string {
	if n == 0 {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}
