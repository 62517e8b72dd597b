package ssh

import (
	"bytes"
	"crypto/md5" //nolint:gosec // HASSH is defined by it
	"encoding/binary"
	"encoding/hex"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
)

const (
	maxHello    = 64 << 10 // bytes in which a client has to have said what it can
	maxVersion  = 255      // RFC 4253, 4.2
	startSample = 256      // bytes of what is no SSH that are kept
	maxNames    = 128      // of one list that are kept
	maxName     = 64       // bytes of one name; RFC 4251, 6

	msgIgnore  = 2
	msgDebug   = 4
	msgKexInit = 20
)

// wire is a connection whose first bytes are looked at: what a client says of itself comes before
// anything is encrypted.
type wire struct {
	net.Conn
	rec  *record.Recorder
	idle time.Duration

	mu      sync.Mutex
	settled bool
	hello   []byte // nil once all is known, or nothing more can be
	sample  []byte
	version string
}

func newWire(c net.Conn, idle time.Duration, rec *record.Recorder) *wire {
	return &wire{Conn: c, rec: rec, idle: idle, hello: []byte{}}
}

// settle begins to end the connection when it is silent for too long.
func (w *wire) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled = true
	w.touch()
}

func (w *wire) touch() {
	if w.settled {
		_ = w.SetReadDeadline(time.Now().Add(w.idle))
	}
}

// Read shows what it reads to the one who looks.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.mu.Lock()
		w.touch()
		w.look(p[:n])
		w.mu.Unlock()
	}
	return n, err //nolint:wrapcheck // it is a connection
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if n > 0 {
		w.mu.Lock()
		w.touch()
		w.mu.Unlock()
	}
	return n, err //nolint:wrapcheck // it is a connection
}

// spoke reports whether the client has said which version it speaks.
func (w *wire) spoke() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.version != ""
}

// start returns the first bytes.
func (w *wire) start() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sample
}

func (w *wire) look(p []byte) {
	if w.hello == nil {
		return
	}
	if len(w.sample) < startSample {
		w.sample = append(w.sample, p[:min(len(p), startSample-len(w.sample))]...)
	}
	w.hello = append(w.hello, p[:min(len(p), maxHello-len(w.hello))]...)
	client, rest, done := parseHello(w.hello)
	w.version = string(client.Version)
	if !done && len(rest) < maxHello && len(w.hello) < maxHello {
		return
	}
	w.hello = nil
	if client.Version != "" {
		w.rec.Note(event.Evidence{Kind: event.EvidenceClient, Client: &client})
	}
}

// parseHello reads what an SSH client sends first: its version (RFC 4253, 4.2) and what it can (7.1).
// done says that there is nothing more to read, or that it is no SSH.
func parseHello(p []byte) (c event.Client, rest []byte, done bool) {
	line, rest, found := bytes.Cut(p, []byte("\n"))
	if !found {
		return c, rest, len(p) > maxVersion || !couldBeSSH(p)
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	if !bytes.HasPrefix(line, []byte("SSH-")) || len(line) > maxVersion {
		return c, rest, true
	}
	c.Version = event.Bytes(line)
	for {
		payload, next, ok, bad := packet(rest)
		if bad || !ok {
			return c, rest, bad
		}
		rest = next
		switch payload[0] {
		case msgIgnore, msgDebug:
		case msgKexInit:
			readLists(&c, payload)
			return c, rest, true
		default:
			return c, rest, true
		}
	}
}

func couldBeSSH(p []byte) bool {
	n := min(len(p), 4)
	return string(p[:n]) == "SSH-"[:n]
}

// packet reads an unencrypted packet (RFC 4253, 6).
func packet(p []byte) (payload, rest []byte, ok, bad bool) {
	const head = 5
	if len(p) < head {
		return nil, p, false, false
	}
	length := int(binary.BigEndian.Uint32(p))
	padding := int(p[4])
	if length > maxHello || length < padding+2 {
		return nil, p, false, true
	}
	if len(p) < 4+length {
		return nil, p, false, false
	}
	return p[head : 4+length-padding], p[4+length:], true, false
}

// readLists reads the lists of a KEXINIT message.
func readLists(c *event.Client, payload []byte) {
	const head = 1 + 16 // type and cookie
	if len(payload) < head {
		return
	}
	p := payload[head:]
	var lists [10]string
	for i := range lists {
		if len(p) < 4 {
			return
		}
		n := int(binary.BigEndian.Uint32(p))
		if n > len(p)-4 {
			return
		}
		lists[i], p = string(p[4:4+n]), p[4+n:]
	}
	// kex, host keys, ciphers ×2, MACs ×2, compression ×2, languages ×2
	sum := md5.Sum([]byte(strings.Join([]string{lists[0], lists[2], lists[4], lists[6]}, ";"))) //nolint:gosec // see above
	c.HASSH = hex.EncodeToString(sum[:])
	c.KEX, c.HostKeys, c.Ciphers = names(lists[0]), names(lists[1]), names(lists[2])
	c.MACs, c.Compress, c.Language = names(lists[4]), names(lists[6]), names(lists[8])
}

func names(list string) []event.Bytes {
	var out []event.Bytes
	for name := range strings.SplitSeq(list, ",") {
		if len(out) >= maxNames {
			break
		}
		if name != "" {
			out = append(out, event.Bytes(name[:min(len(name), maxName)]))
		}
	}
	return out
}
