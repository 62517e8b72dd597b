package sink

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// FuzzCall has a client say anything on a port, and hang up.
func FuzzCall(f *testing.F) {
	for port, text := range map[uint16]string{
		25: "EHLO a\r\nMAIL\r\nRCPT\r\nDATA\r\nx\r\n.\r\nQUIT\r\n", 6667: "NICK a\r\nUSER a\r\nJOIN\r\nPING :x\r\n", 143: "a LOGOUT\r\n",
		80: "GET /x.tgz?y HTTP/1.1\r\nHost: [::1]:80\r\n\r\nGET / HTTP/1.0\r\n\r\n", 53: "\x00\x03abc", 23: "a\nb\nc\n", 21: "USER a\r\nRETR x\r\n",
		443: "\x16\x03\x01\x00\x04\x01\x00\x00\x00", 110: "CAPA\r\n",
		6379: "*1\r\n$4\r\nPING\r\n*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\nREPLCONF ACK 1\r\n",
	} {
		f.Add(port, []byte(text))
	}
	s, err := New(Options{Secret: []byte("s"), Note: func(event.Pot, event.Evidence) {}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, port uint16, said []byte) {
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			buf := make([]byte, 64<<10)
			for {
				if _, err := client.Read(buf); err != nil {
					return
				}
			}
		}()
		pot := Pot{Pot: event.Pot{ID: "1"}, Policy: event.EgressSinkhole}
		s.mu.Lock()
		a := s.accountLocked(pot)
		s.mu.Unlock()
		c := &call{s: s, conn: server, pot: pot, a: a, to: netip.AddrPortFrom(netip.MustParseAddr("45.32.1.2"), port)}
		ran := make(chan struct{})
		go func() { c.run(t.Context()); close(ran) }()
		_ = client.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = client.Write(said)
		_ = client.Close()
		<-done
		<-ran
		_ = server.Close()
	})
}
