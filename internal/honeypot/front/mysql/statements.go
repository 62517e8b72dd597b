package mysql

import (
	"bytes"
	"fmt"
)

const (
	keptStatement = 16 << 10 // bytes of a statement
	keptFile      = 16 << 10 // bytes of a file that a client sent
	keptAnswer    = 256      // bytes of an answer
	largest       = 1<<24 - 1
)

// statement is a command of a client, and what it was answered: their starts.
type statement struct {
	name     string
	text     []byte
	size     int64
	file     []byte // what the client sent after it: a file that the server asked for
	fileSize int64
	answer   []byte // the first packet, with its header
	answered int64
}

// failed says whether the answer is an error.
func (s *statement) failed() bool {
	return len(s.answer) > headerSize && s.answer[headerSize] == isError
}

// statements follows what a client asks for, and pairs it with what the server sends until it asks again.
type statements struct {
	done func(*statement)

	frames frames
	now    *statement
	goesOn bool // what comes belongs to it
	next   byte // number of the packet that would
}

// ask takes bytes of the client.
func (s *statements) ask(p []byte) {
	for len(p) > 0 {
		piece, part := s.frames.next(&p)
		switch part {
		case frameBegins:
			s.begin()
		case frameData:
			s.data(piece)
		case frameHeader:
		}
	}
}

// begin begins a packet. A command has the number 0; what has the next number after another belongs to that one's command, until
// one is empty.
func (s *statements) begin() {
	f := &s.frames
	switch {
	case f.goesOn: // it is the rest of a large one
	case f.seq == 0 && (!s.goesOn || s.next != 0):
		s.end()
		s.now, s.goesOn = &statement{}, false
	default:
		s.goesOn = f.left > 0
	}
	s.next = f.seq + 1
}

func (s *statements) data(p []byte) {
	switch {
	case s.now == nil:
	case s.goesOn:
		s.now.file = appendUpTo(s.now.file, p, keptFile)
		s.now.fileSize += int64(len(p))
	default:
		if s.now.name == "" {
			s.now.name, p = commandName(p[0]), p[1:]
		}
		s.now.text = appendUpTo(s.now.text, p, keptStatement)
		s.now.size += int64(len(p))
	}
}

// answer takes bytes of the server.
func (s *statements) answer(p []byte) {
	if s.now == nil {
		return
	}
	s.now.answer = appendUpTo(s.now.answer, p, keptAnswer)
	s.now.answered += int64(len(p))
}

// end ends what was asked last.
func (s *statements) end() {
	if s.now != nil && s.now.name != "" {
		s.done(s.now)
	}
	s.now = nil
}

func appendUpTo(b, p []byte, most int) []byte {
	return append(b, p[:min(len(p), max(0, most-len(b)))]...)
}

// part is what of a packet comes.
type part int

const (
	frameHeader part = iota // some of it
	frameBegins
	frameData
)

// frames cuts a stream into packets, of which it keeps nothing.
type frames struct {
	header []byte
	seq    byte
	left   int
	full   bool // the packet that is read has the largest size
	goesOn bool // and so what begins now goes on with it
}

// next takes the next piece off p.
func (f *frames) next(p *[]byte) ([]byte, part) {
	if f.left > 0 {
		n := min(f.left, len(*p))
		piece := (*p)[:n]
		*p, f.left = (*p)[n:], f.left-n
		return piece, frameData
	}
	n := min(headerSize-len(f.header), len(*p))
	f.header, *p = append(f.header, (*p)[:n]...), (*p)[n:]
	if len(f.header) < headerSize {
		return nil, frameHeader
	}
	f.left, f.seq, f.goesOn = bodySize(f.header), f.header[3], f.full
	f.full, f.header = f.left == largest, f.header[:0]
	return nil, frameBegins
}

// commandName names a command as the protocol's documentation does.
func commandName(c byte) string {
	names := [...]string{
		"SLEEP", "QUIT", "INIT_DB", "QUERY", "FIELD_LIST", "CREATE_DB", "DROP_DB", "REFRESH", "SHUTDOWN", "STATISTICS", "PROCESS_INFO",
		"CONNECT", "PROCESS_KILL", "DEBUG", "PING", "TIME", "DELAYED_INSERT", "CHANGE_USER", "BINLOG_DUMP", "TABLE_DUMP", "CONNECT_OUT",
		"REGISTER_SLAVE", "STMT_PREPARE", "STMT_EXECUTE", "STMT_SEND_LONG_DATA", "STMT_CLOSE", "STMT_RESET", "SET_OPTION", "STMT_FETCH",
		"DAEMON", "BINLOG_DUMP_GTID", "RESET_CONNECTION",
	}
	if int(c) < len(names) {
		return "COM_" + names[c]
	}
	return fmt.Sprintf("COM_%d", c)
}

const changeUser = 17

// changes reports whether the next that is asked is for another account.
func (s *statements) changes(p []byte) bool {
	return s.frames.left == 0 && len(s.frames.header) == 0 && len(p) > headerSize && p[3] == 0 && p[headerSize] == changeUser
}

// withoutResponse is what COM_CHANGE_USER says, without the response to a challenge.
func withoutResponse(text []byte) []byte {
	account, _, _ := bytes.Cut(text, []byte{0})
	return account
}
