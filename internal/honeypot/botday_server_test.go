package honeypot_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
)

// serveDroppers serves what bots fetch, by HTTP, HTTPS and TFTP: nothing that does anything.
func serveDroppers(t *testing.T, world *netns.NS) {
	t.Helper()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, body := dropped(path.Base(r.URL.Path))
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body)
	}), TLSConfig: &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, MinVersion: tls.VersionTLS12}, ReadHeaderTimeout: time.Minute}
	plain, err := world.ListenTCP(netip.MustParseAddrPort(dropper + ":80"))
	require.NoError(t, err)
	secure, err := world.ListenTCP(netip.MustParseAddrPort(dropper + ":443"))
	require.NoError(t, err)
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(plain) }()
	go func() { ended <- server.ServeTLS(secure, "", "") }()
	var questions *net.UDPConn
	require.NoError(t, world.Do(func() error {
		questions, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(dropper+":69")))
		return err
	}))
	done := make(chan struct{})
	go func() { defer close(done); serveTFTP(questions) }()
	t.Cleanup(func() {
		assert.NoError(t, server.Close())
		require.ErrorIs(t, <-ended, http.ErrServerClosed)
		require.ErrorIs(t, <-ended, http.ErrServerClosed)
		assert.NoError(t, questions.Close())
		<-done
	})
}

// serveTFTP answers each request with one block (RFC 1350), from the port that it came to; files are that small.
func serveTFTP(c *net.UDPConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if n < 4 || buf[1] != 1 { // no request to read: what acknowledges a block
			continue
		}
		name, _, _ := strings.Cut(string(buf[2:n]), "\x00")
		_, body := dropped(name)
		_, _ = c.WriteToUDPAddrPort(append([]byte{0, 3, 0, 1}, body...), from)
	}
}

// dropped is a file that does nothing, of a kind that its name tells.
func dropped(name string) (kind string, body []byte) {
	switch path.Ext(name) {
	case ".gz":
		return "application/gzip", emptyArchive()
	case "":
		if strings.HasPrefix(name, "x86") || name == "mips" {
			return "application/octet-stream", endsAtOnce()
		}
	}
	return "application/x-sh", []byte("#!/bin/sh\n")
}

// endsAtOnce is a program for x86-64 that ends with success: an ELF header, a program header, exit(0).
func endsAtOnce() []byte {
	le := binary.LittleEndian
	code := []byte{0x31, 0xff, 0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05}
	size := uint64(120 + len(code))
	b := append([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, make([]byte, 9)...)
	b = le.AppendUint32(le.AppendUint16(le.AppendUint16(b, 2), 62), 1)
	for _, v := range []uint64{0x400078, 64, 0} {
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(le.AppendUint32(b, 1), 5)
	for _, v := range []uint64{0, 0x400000, 0x400000, size, size, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, code...)
}

// selfSigned is a certificate as such servers have.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(dropper)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// emptyArchive is a compressed tar without files.
func emptyArchive() []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_ = tar.NewWriter(z).Close() // to memory
	_ = z.Close()
	return out.Bytes()
}
