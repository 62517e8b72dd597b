package sink_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What asks for a file by TFTP gets its blocks in order, each until it has acknowledged it, from a port of their own.
func TestFilesByTFTP(t *testing.T) {
	s := newSite(t, 1, nil)
	var c *net.UDPConn
	require.NoError(t, s.pots[0].Do(func() error {
		var err error
		c, err = net.ListenUDP("udp4", nil)
		return err
	}))
	defer c.Close() //nolint:errcheck // a test's socket
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	server := netip.MustParseAddrPort("192.0.2.80:69")
	send := func(to netip.AddrPort, message string) {
		t.Helper()
		_, err := c.WriteToUDPAddrPort([]byte(message), to)
		require.NoError(t, err)
	}
	block := func() (string, netip.AddrPort) {
		t.Helper()
		buf := make([]byte, 1500)
		n, from, err := c.ReadFromUDPAddrPort(buf)
		require.NoError(t, err)
		return string(buf[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	}
	open := func() int { _, open := s.sink.Counts(); return open }

	send(server, "\x00\x01bot.sh\x00octet\x00")
	first, from := block()
	assert.Equal(t, "\x00\x03\x00\x01#!/bin/sh\n", first)
	assert.Equal(t, server.Addr(), from.Addr())
	assert.NotEqual(t, server.Port(), from.Port())
	again, _ := block()
	assert.Equal(t, first, again, "nobody has acknowledged it")
	send(from, "\x00\x04\x00\x01")
	require.Eventually(t, func() bool { return open() == 0 }, time.Minute, time.Millisecond, "that was all")

	send(server, "\x00\x01bot.x86\x00octet\x00")
	first, from = block()
	assert.Len(t, first, 4+512)
	send(from, "\x00\x04\x00\x01")
	second, _ := block()
	assert.Equal(t, "\x00\x03\x00\x02", second[:4])
	send(from, "\x00\x05\x00\x03full\x00")
	require.Eventually(t, func() bool { return open() == 0 }, time.Minute, time.Millisecond, "the client wants no more")
}
