package redis

import (
	"bytes"
	"math"
	"strconv"
)

// Bounds of what is kept, and of what the server takes (networking.c of Redis).
const (
	maxLine  = 64 << 10  // PROTO_INLINE_MAX_SIZE
	maxBulk  = 512 << 20 // proto-max-bulk-len
	maxHeld  = 128 << 10 // bytes of a login
	maxArgs  = 64        // of a request that are kept
	keptArg  = 512       // bytes of each
	maxLogin = 16        // arguments of a login
)

// request is what a client asked for: the start of it.
type request struct {
	args [][]byte
	more bool // there was more
	size int64
}

// requests reads what a client sends as the server does, arrays of RESP and lines that were typed, and lets it pass. What
// logs in is held back until it is whole.
type requests struct {
	login func(args [][]byte) [][]byte // decides on a request that may log in, and says what is sent in its place
	done  func(request)                // is told of each request before its end is passed on

	out     []byte
	line    []byte // that has not ended
	held    []byte
	holding bool
	left    int64 // arguments that are to come
	count   int64 // of all of them
	bytes   int64 // of an argument that are to come, its end included
	arg     []byte
	argSize int64
	now     request
	broken  bool // the server closes: nothing more is passed on
}

// feed takes what was sent and returns what is passed on, until the next call.
func (r *requests) feed(p []byte) []byte {
	r.out = r.out[:0]
	for len(p) > 0 && !r.broken {
		if r.bytes > 0 {
			n := min(int64(len(p)), r.bytes)
			r.data(p[:n])
			p = p[n:]
			continue
		}
		p = p[r.more(p):]
	}
	return r.out
}

// more takes the next bytes of a line, and returns how many.
func (r *requests) more(p []byte) int {
	if len(r.line) == 0 && r.left == 0 && p[0] != '*' || len(r.line) > 0 && r.left == 0 && r.line[0] != '*' {
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			r.partial(p)
			return len(p)
		}
		line := append(r.line, p[:n]...)
		r.line = r.line[:0]
		r.typed(line)
		return n
	}
	// The server skips whatever follows the carriage return.
	if k := len(r.line); k > 0 && r.line[k-1] == '\r' {
		line := append(r.line, p[0])
		r.line = r.line[:0]
		r.head(line)
		return 1
	}
	i := bytes.IndexByte(p, '\r')
	if i < 0 || i+1 == len(p) {
		r.partial(p)
		return len(p)
	}
	line := append(r.line, p[:i+2]...)
	r.line = r.line[:0]
	r.head(line)
	return i + 2
}

func (r *requests) partial(p []byte) {
	if r.line = append(r.line, p...); len(r.line) > maxLine {
		r.stop(r.line)
	}
}

// stop passes on what the server will complain about, and nothing after it.
func (r *requests) stop(last []byte) {
	r.release()
	r.out = append(r.out, last...)
	r.broken = true
}

func (r *requests) emit(b []byte) {
	if !r.holding {
		r.out = append(r.out, b...)
		return
	}
	if len(r.held)+len(b) > maxHeld {
		r.held, r.holding, r.broken = nil, false, true
		return
	}
	r.held = append(r.held, b...)
}

// release lets pass what was held back.
func (r *requests) release() {
	r.out = append(r.out, r.held...)
	r.held, r.holding = r.held[:0], false
}

// head takes the line that begins an array, or an argument.
func (r *requests) head(line []byte) {
	n, ok := decimal(bytes.TrimPrefix(line[:len(line)-2], line[:1]))
	switch {
	case r.left == 0 && (!ok || n > math.MaxInt32), r.left > 0 && (line[0] != '$' || !ok || n < 0 || n > maxBulk):
		r.stop(line)
	case r.left == 0 && n <= 0:
		r.emit(line)
	case r.left == 0:
		r.left, r.count, r.now, r.holding = n, n, request{}, true
		r.emit(line)
	default:
		r.bytes, r.argSize, r.arg = n+2, n, nil
		r.emit(line)
	}
}

// data takes bytes of an argument.
func (r *requests) data(p []byte) {
	most := int64(keptArg)
	if r.holding && len(r.now.args) > 0 {
		most = maxHeld
	}
	if take := min(r.argSize, most) - int64(len(r.arg)); take > 0 && len(r.now.args) < maxArgs {
		r.arg = append(r.arg, p[:min(take, int64(len(p)))]...)
	}
	r.emit(p)
	if r.bytes -= int64(len(p)); r.bytes == 0 && !r.broken {
		r.endArg()
	}
}

func (r *requests) endArg() {
	if len(r.now.args) < maxArgs {
		r.now.args = append(r.now.args, r.arg)
	} else {
		r.now.more = true
	}
	r.now.more = r.now.more || int64(len(r.arg)) < r.argSize
	r.now.size += r.argSize
	r.left--
	if r.holding && (!isLogin(r.now.args[0]) || r.count > maxLogin) {
		r.release()
	}
	if r.left > 0 {
		return
	}
	if r.holding {
		r.held, r.holding = r.held[:0], false
		r.out = appendRequest(r.out, r.login(r.now.args))
	}
	r.done(r.now)
}

// typed takes a request that is a line of words.
func (r *requests) typed(line []byte) {
	args, ok := words(bytes.TrimSuffix(line[:len(line)-1], []byte("\r")))
	ok = ok && bytes.IndexByte(line, 0) < 0 // the server sees no line's end after it, and waits
	switch {
	case !ok:
		r.stop(line)
		return
	case len(args) == 0:
		r.emit(line)
		return
	case isLogin(args[0]) && len(args) <= maxLogin:
		r.now = request{args: args}
		r.out = appendRequest(r.out, r.login(args))
	default:
		r.now = request{size: int64(len(line))}
		for _, a := range args {
			if len(r.now.args) == maxArgs {
				r.now.more = true
				break
			}
			r.now.more = r.now.more || len(a) > keptArg
			r.now.args = append(r.now.args, a[:min(len(a), keptArg)])
		}
		r.emit(line)
	}
	r.done(r.now)
}

// isLogin says whether a request of this name may carry a password.
func isLogin(name []byte) bool {
	return bytes.EqualFold(name, []byte("auth")) || bytes.EqualFold(name, []byte("hello"))
}

// appendRequest appends a request as an array of RESP.
func appendRequest(b []byte, args [][]byte) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(args)), 10), '\r', '\n')
	for _, a := range args {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(a)), 10), '\r', '\n')
		b = append(append(b, a...), '\r', '\n')
	}
	return b
}

// decimal reads a number as the server does: no sign but a minus, no leading zeros.
func decimal(b []byte) (int64, bool) {
	digits := bytes.TrimPrefix(b, []byte("-"))
	if len(digits) == 0 || len(digits) > 18 || digits[0] == '0' && len(b) > 1 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}

// words splits a line as the server does (sdssplitargs): in double quotes with escapes, in single ones with \' only.
func words(b []byte) (out [][]byte, ok bool) {
	for {
		for len(b) > 0 && isSpace(b[0]) {
			b = b[1:]
		}
		if len(b) == 0 {
			return out, true
		}
		var w []byte
		if w, b, ok = cutWord(b); !ok {
			return nil, false
		}
		out = append(out, w)
	}
}

func cutWord(b []byte) (w, rest []byte, ok bool) {
	w = []byte{}
	for len(b) > 0 && !isSpace(b[0]) {
		switch b[0] {
		case '"', '\'':
			var quoted []byte
			if quoted, b, ok = cutQuoted(b); !ok || len(b) > 0 && !isSpace(b[0]) {
				return nil, nil, false
			}
			return append(w, quoted...), b, true
		}
		w, b = append(w, b[0]), b[1:]
	}
	return w, b, true
}

func cutQuoted(b []byte) (w, rest []byte, ok bool) {
	quote := b[0]
	for b = b[1:]; len(b) > 0; {
		c := b[0]
		switch {
		case c == quote:
			return w, b[1:], true
		case c == '\\' && quote == '"' && len(b) > 3 && b[1] == 'x':
			if n, err := strconv.ParseUint(string(b[2:4]), 16, 8); err == nil {
				w, b = append(w, byte(n)), b[4:]
				continue
			}
			w, b = append(w, 'x'), b[2:]
		case c == '\\' && quote == '"' && len(b) > 1:
			w, b = append(w, unescaped(b[1])), b[2:]
		case c == '\\' && quote == '\'' && len(b) > 1 && b[1] == '\'':
			w, b = append(w, '\''), b[2:]
		default:
			w, b = append(w, c), b[1:]
		}
	}
	return nil, nil, false
}

func unescaped(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
