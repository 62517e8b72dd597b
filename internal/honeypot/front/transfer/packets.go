package transfer

import "encoding/binary"

// maxPacket bounds an SFTP packet in bytes: OpenSSH takes 256 KiB.
const maxPacket = 256<<10 + 1024

// packets splits one direction of SFTP into packets. Of each it keeps only the head that somebody wants to see; the
// rest goes on in the pieces in which it comes.
type packets struct {
	// head is called with the kind and the bytes that are here, and with how many are still to come; it returns how
	// many more it wants to see before it is called again, 0 when it has seen enough. ok is false where this can't be.
	head func(b []byte, left int) (more int, ok bool)
	rest func(p []byte)

	buf  []byte // length, kind, and what was wanted
	more int    // bytes that buf lacks
	left int    // bytes of the packet that come after those
}

const packetHead = 4 + 1

func newPackets(head func([]byte, int) (int, bool), rest func([]byte)) packets {
	return packets{head: head, rest: rest, more: packetHead}
}

// feed takes the next bytes; it returns false where they can't be followed any more.
func (r *packets) feed(p []byte) bool {
	for len(p) > 0 {
		if r.more == 0 {
			n := min(r.left, len(p))
			r.rest(p[:n])
			r.left -= n
			p = p[n:]
		} else {
			n := min(r.more, len(p))
			r.buf = append(r.buf, p[:n]...)
			r.more -= n
			p = p[n:]
			if r.more == 0 && !r.look() {
				return false
			}
		}
		if r.more == 0 && r.left == 0 {
			r.buf, r.more = r.buf[:0], packetHead
		}
	}
	return true
}

func (r *packets) look() bool {
	if len(r.buf) == packetHead {
		length := binary.BigEndian.Uint32(r.buf)
		if length == 0 || length > maxPacket {
			return false
		}
		r.left = int(length) - 1
	}
	more, ok := r.head(r.buf[4:], r.left)
	if !ok || more > r.left {
		return false
	}
	r.more = more
	r.left -= more
	return true
}
