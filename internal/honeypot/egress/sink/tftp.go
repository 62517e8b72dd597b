package sink

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

// Of TFTP (RFC 1350): the port of requests, the first bytes of messages, the size of all blocks but the last.
const (
	tftpPort = 69

	tftpRead        = 1
	tftpWrite       = 2
	tftpData        = 3
	tftpAcknowledge = 4

	tftpBlock = 512

	tftpAgain = time.Second // a block that was not acknowledged is sent again
	tftpTries = 5
)

// tftpFile reads the name of the file that a request for it names (RFC 1350, 5).
func tftpFile(b []byte) (string, bool) {
	if len(b) < 4 || b[0] != 0 || b[1] != tftpRead && b[1] != tftpWrite {
		return "", false
	}
	name, _, ok := bytes.Cut(b[2:], []byte{0})
	return string(name), ok && len(name) > 0 && len(name) <= maxNameBytes
}

func tftpMethod(b []byte) string {
	if b[1] == tftpWrite {
		return "PUT"
	}
	return "GET"
}

// answerTFTP sends the file that a pot's client asked for: the one that it would get by HTTP.
func (s *Sink) answerTFTP(ctx context.Context, pot Pot, to, client netip.AddrPort, file string, calls *sync.WaitGroup) {
	a, ok := s.enter(pot)
	if !ok {
		return
	}
	conn, err := s.o.Sockets.Converse(ctx, to.Addr(), client)
	if err != nil { // out of descriptors, most likely: it asks again
		s.leave(a)
		return
	}
	host, _ := s.nameOf(pot, to.Addr())
	target := "/" + strings.TrimPrefix(file, "/")
	_, body := content(strings.ToLower(path.Base(target)), target, s.secret("answer", hostOf(to, tftpPort, host)+" "+target))
	calls.Go(func() {
		defer s.leave(a)
		defer conn.Close() //nolint:errcheck // nothing is left to send
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		sendBlocks(conn, body)
	})
}

// sendBlocks sends each block until the client has acknowledged it. One that is not full ends the file.
func sendBlocks(conn *net.UDPConn, body []byte) {
	for number := uint16(1); ; number++ {
		block := body[:min(len(body), tftpBlock)]
		body = body[len(block):]
		if !sendBlock(conn, number, block) || len(block) < tftpBlock {
			return
		}
	}
}

func sendBlock(conn *net.UDPConn, number uint16, block []byte) (acknowledged bool) {
	message := append(binary.BigEndian.AppendUint16([]byte{0, tftpData}, number), block...)
	want := binary.BigEndian.AppendUint16([]byte{0, tftpAcknowledge}, number)
	var got [4]byte
	for range tftpTries {
		if _, err := conn.Write(message); err != nil {
			return false
		}
		if conn.SetReadDeadline(time.Now().Add(tftpAgain)) != nil {
			return false
		}
		for {
			n, err := conn.Read(got[:])
			if err == nil && bytes.Equal(got[:n], want) {
				return true
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil || n > 1 && got[1] != tftpAcknowledge { // it is gone, or wants no more
				return false
			}
		}
	}
	return false
}
