package intake

import "bytes"

// Bounds of what a sender may put into one frame.
const (
	maxFrame = 64 << 10 // bytes that are kept
	maxCount = 1 << 20  // a sender that announces a longer frame is not understood
)

// splitter finds the frames in a stream (RFC 6587): it tells for each frame by its beginning whether its octets are counted
// ("28 <34>1 …") or a line feed ends it ("<34>1 …\n").
//
// The parsers of go-syslog fit no hostile stream: the one for counted octets takes a NUL for the end of the stream and gives
// up at the first error, the one for lines keeps any length in memory, and neither tells frame by frame.
type splitter struct {
	skip   int  // octets of an overlong counted frame that are still to be dropped
	toLine bool // the rest of an overlong line is still to be dropped
}

// verdict is what a splitter found.
type verdict int

const (
	more   verdict = iota // no whole frame; advance may be more than 0 nevertheless
	whole                 // a frame
	cut                   // a frame that was longer than what is kept
	broken                // not syslog: the connection cannot be followed further
)

// next looks for a frame at the beginning of data. Of data the first advance bytes are done with; frame lies in them.
func (s *splitter) next(data []byte) (frame []byte, advance int, v verdict) {
	if s.skip > 0 {
		n := min(s.skip, len(data))
		s.skip -= n
		return nil, n, more
	}
	if s.toLine {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			return nil, len(data), more
		}
		s.toLine = false
		return nil, i + 1, more
	}
	// What stands between frames: the line feed that some send after a counted frame, empty lines, NULs.
	for advance < len(data) && bytes.IndexByte([]byte("\n\r\x00"), data[advance]) >= 0 {
		advance++
	}
	data = data[advance:]
	header, count, counted := octetCount(data)
	switch {
	case counted == unknown:
		return nil, advance, more
	case counted == no:
		frame, n, v := s.line(data)
		return frame, advance + n, v
	case count > maxCount:
		return nil, advance, broken
	case len(data) < header+min(count, maxFrame):
		return nil, advance, more
	case count > maxFrame:
		s.skip = count - maxFrame
		return data[header : header+maxFrame], advance + header + maxFrame, cut
	}
	return data[header : header+count], advance + header + count, whole
}

// line takes a frame that a line feed ends.
func (s *splitter) line(data []byte) (frame []byte, advance int, v verdict) {
	i := bytes.IndexByte(data, '\n')
	switch {
	case i < 0 && len(data) < maxFrame:
		return nil, 0, more
	case i < 0:
		s.toLine = true
		return data[:maxFrame], maxFrame, cut
	case i > maxFrame:
		return data[:maxFrame], i + 1, cut
	}
	return bytes.TrimSuffix(data[:i], []byte{'\r'}), i + 1, whole
}

type answer int

const (
	no answer = iota
	yes
	unknown // more must be seen
)

// octetCount reads "28 <": digits that don't begin with 0, a space, and the beginning of the message.
func octetCount(data []byte) (header, count int, counted answer) {
	if len(data) == 0 {
		return 0, 0, unknown
	}
	i := 0
	for ; i < len(data) && '0' <= data[i] && data[i] <= '9' && i < 10; i++ {
		count = count*10 + int(data[i]-'0')
	}
	switch {
	case i == 0 || i == 10 || data[0] == '0':
		return 0, 0, no
	case i == len(data):
		return 0, 0, unknown
	case data[i] != ' ':
		return 0, 0, no
	case i+1 == len(data):
		return 0, 0, unknown
	case data[i+1] != '<':
		return 0, 0, no
	}
	return i + 1, count, yes
}

// text returns a frame's line as it is handed on: without PRI and what ends it, and with the line feeds within it written
// #012, as rsyslog writes them. It may change the frame.
func text(frame []byte) []byte {
	frame = bytes.TrimRight(frame, "\r\n\x00")
	frame = withoutPRI(frame)
	if bytes.IndexByte(frame, '\n') >= 0 {
		frame = bytes.ReplaceAll(frame, []byte{'\n'}, []byte("#012"))
	}
	return frame
}

// withoutPRI takes "<34>" off the beginning.
func withoutPRI(line []byte) []byte {
	if len(line) < 3 || line[0] != '<' {
		return line
	}
	n := 0
	for i, c := range line[1:min(len(line), 5)] {
		switch {
		case '0' <= c && c <= '9':
			n = n*10 + int(c-'0')
		case c == '>' && i > 0 && n <= 191: // facility 23, severity 7
			return line[i+2:]
		default:
			return line
		}
	}
	return line
}
