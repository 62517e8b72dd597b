package redis

import "bytes"

const (
	maxDepth  = 64  // of a reply
	keptReply = 256 // bytes of one that are kept
)

// reply is what the server answered: its start.
type reply struct {
	head []byte
	size int64
}

// failed says whether it is an error.
func (r reply) failed() bool { return len(r.head) > 0 && (r.head[0] == '-' || r.head[0] == '!') }

// replies follows what the server sends (RESP 2 and 3), which an attacker may have replaced.
type replies struct {
	done func(reply) // is told of each reply to a request

	line   []byte
	left   []int64 // of each array that is open: elements that are to come
	bytes  int64   // of a string that are to come, its end included
	now    reply
	pushed bool // what is read belongs to no request
	lost   bool // what comes can't be told apart any more
}

func (r *replies) feed(p []byte) {
	for len(p) > 0 && !r.lost {
		if r.bytes > 0 {
			n := min(int64(len(p)), r.bytes)
			r.take(p[:n])
			if r.bytes -= n; r.bytes == 0 {
				r.end()
			}
			p = p[n:]
			continue
		}
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			n = len(p)
		}
		r.line = append(r.line, p[:n]...)
		r.take(p[:n])
		p = p[n:]
		if len(r.line) > maxLine {
			r.lost = true
		} else if r.line[len(r.line)-1] == '\n' {
			r.element(r.line)
			r.line = r.line[:0]
		}
	}
}

func (r *replies) take(p []byte) {
	r.now.size += int64(len(p))
	if room := keptReply - len(r.now.head); room > 0 {
		r.now.head = append(r.now.head, p[:min(room, len(p))]...)
	}
}

// element takes the line that begins one.
func (r *replies) element(line []byte) {
	if len(line) < 3 || line[len(line)-2] != '\r' {
		r.lost = true
		return
	}
	kind := line[0]
	if len(r.left) == 0 {
		r.pushed = kind == '>'
	}
	switch kind {
	case '+', '-', ':', '_', '#', ',', '(':
		r.end()
		return
	case '$', '=', '!', '*', '~', '>', '%', '|':
	default:
		r.lost = true
		return
	}
	n, ok := decimal(line[1 : len(line)-2])
	switch {
	case !ok || n < -1:
		r.lost = true
	case n == -1:
		r.end()
	case kind == '$' || kind == '=' || kind == '!':
		r.bytes = n + 2
	case kind == '%':
		r.open(2 * n)
	case kind == '|': // what follows belongs to it
		r.open(2*n + 1)
	default:
		r.open(n)
	}
}

func (r *replies) open(n int64) {
	if n == 0 {
		r.end()
		return
	}
	if len(r.left) == maxDepth {
		r.lost = true
		return
	}
	r.left = append(r.left, n)
}

// end ends an element, and those whose last one it is.
func (r *replies) end() {
	for len(r.left) > 0 {
		last := len(r.left) - 1
		if r.left[last]--; r.left[last] > 0 {
			return
		}
		r.left = r.left[:last]
	}
	if !r.pushed {
		r.done(r.now)
	}
	r.now = reply{}
}
