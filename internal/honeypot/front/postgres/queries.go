package postgres

import (
	"bytes"
	"encoding/binary"
)

const (
	keptText    = 16 << 10 // bytes of a message
	keptFile    = 16 << 10 // bytes of what is copied to the server
	keptAnswer  = 256      // bytes of an answer
	keptReply   = 1 << 10  // bytes of a message of the server
	maxValues   = 64       // of a statement's parameters that are kept
	keptValue   = 512      // bytes of each
	maxPending  = 1 << 10  // batches whose answer is waited for
	maxOfABatch = 1 << 10  // queries
)

// query is what a client asked for, and what it was answered: their starts.
type query struct {
	name     string
	args     [][]byte
	size     int64
	more     bool   // there was more
	file     []byte // that it copied to the server
	fileSize int64
	answer   string
	answered int64
	failed   bool
}

// batch is what a client asks for until the server says that it is ready.
type batch struct {
	queries  []*query
	closed   bool
	answer   string
	answered int64
	failed   bool
}

// queries follows what a client asks for, and pairs it with what the server answers.
type queries struct {
	done func(*query)

	in, out stream
	pending []*batch
	lost    bool // what is answered can't be told to whom any more
}

// stream cuts what one side sends into messages, of which it keeps the start.
type stream struct {
	head []byte
	left int64
	size int64
	kept []byte
	most int
}

// feed takes bytes, and has done told of each message that is whole.
func (s *stream) feed(p []byte, done func(kind byte, body []byte, size int64)) {
	for len(p) > 0 {
		if len(s.head) < headSize {
			n := min(headSize-len(s.head), len(p))
			s.head, p = append(s.head, p[:n]...), p[n:]
			if len(s.head) < headSize {
				return
			}
			s.size = max(0, int64(binary.BigEndian.Uint32(s.head[1:]))-lengthSize)
			s.left, s.kept = s.size, s.kept[:0]
		}
		n := min(s.left, int64(len(p)))
		s.kept = append(s.kept, p[:min(n, int64(s.most-len(s.kept)))]...)
		s.left, p = s.left-n, p[n:]
		if s.left == 0 {
			done(s.head[0], s.kept, s.size)
			s.head = s.head[:0]
		}
	}
}

// ask takes bytes of the client.
func (q *queries) ask(p []byte) {
	q.in.most = keptText
	q.in.feed(p, q.asked)
}

// asked takes a message of the client.
func (q *queries) asked(kind byte, body []byte, size int64) {
	more := int64(len(body)) < size
	switch kind {
	case 'Q':
		q.push(&query{name: "Query", args: [][]byte{text(body)}, size: size, more: more})
		q.close()
	case 'P':
		_, body, _ = bytes.Cut(body, []byte{0}) // the statement's name
		q.push(&query{name: "Parse", args: [][]byte{text(body)}, size: size, more: more})
	case 'B':
		values, all := valuesOf(body)
		q.push(&query{name: "Bind", args: values, size: size, more: more || !all})
	case 'F':
		q.push(&query{name: "FunctionCall", args: [][]byte{append([]byte(nil), body...)}, size: size, more: more})
		q.close()
	case 'S':
		q.close()
	case 'd':
		if last := q.last(); last != nil {
			last.file = append(last.file, body[:min(len(body), keptFile-len(last.file))]...)
			last.fileSize += size
		}
	}
}

// text is a string up to its end.
func text(b []byte) []byte {
	b, _, _ = bytes.Cut(b, []byte{0})
	return append([]byte(nil), b...)
}

// valuesOf are the parameters of a Bind message.
func valuesOf(body []byte) (out [][]byte, all bool) {
	_, body, _ = bytes.Cut(body, []byte{0}) // portal
	_, body, _ = bytes.Cut(body, []byte{0}) // statement
	count := func() (n int, ok bool) {
		if len(body) < 2 {
			return 0, false
		}
		n, body = int(binary.BigEndian.Uint16(body)), body[2:]
		return n, true
	}
	formats, ok := count()
	if !ok || len(body) < 2*formats {
		return nil, false
	}
	body = body[2*formats:]
	n, ok := count()
	if !ok {
		return nil, false
	}
	all = true
	for range n {
		if len(body) < 4 || len(out) == maxValues {
			return out, false
		}
		size := int64(int32(binary.BigEndian.Uint32(body))) // -1 is NULL
		body = body[4:]
		if size < 0 {
			out = append(out, []byte("NULL"))
			continue
		}
		has := min(size, int64(len(body)))
		out = append(out, append([]byte(nil), body[:min(has, keptValue)]...))
		all = all && has == size && size <= keptValue
		body = body[has:]
	}
	return out, all
}

// open is the batch that goes on.
func (q *queries) open() *batch {
	if n := len(q.pending); n > 0 && !q.pending[n-1].closed {
		return q.pending[n-1]
	}
	if len(q.pending) == maxPending {
		q.end()
		q.lost = true
	}
	b := &batch{}
	q.pending = append(q.pending, b)
	return b
}

func (q *queries) push(one *query) {
	if q.lost {
		q.done(one)
		return
	}
	b := q.open()
	if len(b.queries) == maxOfABatch { // the others are told without an answer
		q.done(b.queries[0])
		b.queries = b.queries[1:]
	}
	b.queries = append(b.queries, one)
}

func (q *queries) close() {
	if !q.lost {
		q.open().closed = true
	}
}

// last is what was asked last, where the server has not yet answered all of it.
func (q *queries) last() *query {
	if len(q.pending) == 0 {
		return nil
	}
	b := q.pending[len(q.pending)-1]
	if len(b.queries) == 0 {
		return nil
	}
	return b.queries[len(b.queries)-1]
}

// answer takes bytes of the server.
func (q *queries) answer(p []byte) {
	q.out.most = keptReply
	q.out.feed(p, q.answeredBy)
}

// answeredBy takes a message of the server.
func (q *queries) answeredBy(kind byte, body []byte, size int64) {
	if len(q.pending) == 0 {
		return
	}
	b := q.pending[0]
	b.answered += headSize + size
	switch kind {
	case 'C':
		b.answer = string(text(body))
	case 'E':
		b.answer, b.failed = failure(body), true
	case 'Z':
		q.pending = q.pending[1:]
		b.tell(q.done)
	}
}

// tell tells of the queries of a batch that was answered.
func (b *batch) tell(done func(*query)) {
	for _, one := range b.queries {
		one.answer, one.answered, one.failed = b.answer[:min(len(b.answer), keptAnswer)], b.answered, b.failed
		done(one)
	}
}

// end tells of what was not answered.
func (q *queries) end() {
	for _, b := range q.pending {
		b.tell(q.done)
	}
	q.pending = nil
}
