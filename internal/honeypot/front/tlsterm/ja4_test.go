package tlsterm_test

import (
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/tlsterm"
)

// The example of JA4's authors: a Chrome.
func TestJA4(t *testing.T) {
	chrome := &tls.ClientHelloInfo{
		CipherSuites: []uint16{
			0x3a3a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
		},
		ServerName: "example.com", SupportedProtos: []string{"h2", "http/1.1"}, SupportedVersions: []uint16{0x1a1a, tls.VersionTLS13, tls.VersionTLS12},
		SignatureSchemes: []tls.SignatureScheme{0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601},
		Extensions: []uint16{
			0x4a4a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015, 0x8a8a,
		},
	}
	assert.Equal(t, "t13d1516h2_8daaf6152771_e5627efa2ab1", tlsterm.JA4(chrome))
	assert.Equal(t, "t00i000000_000000000000_000000000000", tlsterm.JA4(&tls.ClientHelloInfo{}))
	assert.Equal(t, "t12i010099_", tlsterm.JA4(&tls.ClientHelloInfo{
		CipherSuites: []uint16{5}, SupportedVersions: []uint16{tls.VersionTLS12}, SupportedProtos: []string{"\x90x\x99"},
	})[:11])
}
