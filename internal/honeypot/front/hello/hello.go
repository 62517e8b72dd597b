// Package hello reads what an SSH client says of itself, in the clear, before anything is encrypted.
package hello

import (
	"bytes"
	"crypto/md5" //nolint:gosec // HASSH is defined by it
	"encoding/binary"
	"encoding/hex"
	"strings"
	"sync"

	"github.com/kokkuri/kokkuri/internal/event"
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

// Ear listens to the start of one connection. Its methods may be called concurrently.
type Ear struct {
	note func(event.Evidence)

	mu      sync.Mutex
	hello   []byte // nil once all is known, or nothing more can be
	sample  []byte
	version string
}

// New returns an ear that notes what the client said as soon as it has said all.
func New(note func(event.Evidence)) *Ear { return &Ear{note: note, hello: []byte{}} }

// Spoke reports whether the client has said which version it speaks.
func (e *Ear) Spoke() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.version != ""
}

// Start returns the first bytes.
func (e *Ear) Start() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sample
}

// Hear takes the next bytes that the client sent.
func (e *Ear) Hear(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hello == nil {
		return
	}
	if len(e.sample) < startSample {
		e.sample = append(e.sample, p[:min(len(p), startSample-len(e.sample))]...)
	}
	e.hello = append(e.hello, p[:min(len(p), maxHello-len(e.hello))]...)
	client, rest, done := parseHello(e.hello)
	e.version = string(client.Version)
	if !done && len(rest) < maxHello && len(e.hello) < maxHello {
		return
	}
	e.hello = nil
	if client.Version != "" {
		e.note(event.Evidence{Kind: event.EvidenceClient, Client: &client})
	}
}

// End notes the version of a client that left before it said what it can.
func (e *Ear) End() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hello == nil || e.version == "" {
		return
	}
	e.hello = nil
	e.note(event.Evidence{Kind: event.EvidenceClient, Client: &event.Client{Version: event.Bytes(e.version)}})
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
