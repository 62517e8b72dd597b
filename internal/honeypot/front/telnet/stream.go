package telnet

import (
	"bytes"
	"encoding/binary"
)

// Commands and options of the protocol (RFC 854, 1073, 1091, 1572).
const (
	iac  = 255
	will = 251
	dont = 254
	sb   = 250
	se   = 240

	optTerminal    = 24
	optWindow      = 31
	optEnvironment = 39

	maxOption = 1 << 10 // bytes of an option's value that are kept
)

// stream tells what one side types or prints from what it says to the other's program.
type stream struct {
	command []byte // that has not ended
	value   bool   // of an option: up to IAC SE
	escaped bool   // the last byte of it was IAC
}

// split takes bytes, and hands on what they are in their order: data as it is meant, or a command as it came, of which a long one is cut.
func (s *stream) split(p []byte, data, command func([]byte)) {
	for len(p) > 0 {
		if len(s.command) == 0 {
			n := bytes.IndexByte(p, iac)
			if n < 0 {
				n = len(p)
			}
			if n > 0 {
				data(p[:n])
				p = p[n:]
				continue
			}
		}
		b := p[0]
		p = p[1:]
		switch {
		case len(s.command) == 0:
			s.command = append(s.command, b)
		case s.value:
			if len(s.command) < maxOption {
				s.command = append(s.command, b)
			}
			ended := s.escaped && b == se
			if s.escaped = b == iac && !s.escaped; ended {
				s.end(command)
			}
		case len(s.command) == 2: // of WILL and the like
			s.command = append(s.command, b)
			s.end(command)
		case b == iac:
			s.command = s.command[:0]
			data([]byte{b})
		default:
			s.command = append(s.command, b)
			switch {
			case b == sb:
				s.value, s.escaped = true, false
			case b < will || b > dont:
				s.end(command)
			}
		}
	}
}

func (s *stream) end(command func([]byte)) {
	command(s.command)
	s.command, s.value = s.command[:0], false
}

// encoded is a byte of data as it is sent.
func encoded(b byte) []byte {
	if b == iac {
		return []byte{iac, iac}
	}
	return []byte{b}
}

// option cuts an option's value.
func option(raw []byte) (name byte, value []byte) {
	if len(raw) < 5 || raw[1] != sb {
		return 0, nil
	}
	return raw[2], raw[3 : len(raw)-2]
}

// window reads the size of a window.
func window(value []byte) (width, height uint32, ok bool) {
	if len(value) != 4 {
		return 0, 0, false
	}
	return uint32(binary.BigEndian.Uint16(value)), uint32(binary.BigEndian.Uint16(value[2:])), true
}

// variables reads an environment.
func variables(value []byte, told func(name, value string)) {
	const (
		isVariable, isValue, escape, userVariable = 0, 1, 2, 3
	)
	if len(value) < 2 || value[0] > 2 { // IS, SEND or INFO
		return
	}
	var name, text []byte
	inValue, begun := false, false
	end := func() {
		if begun {
			told(string(name), string(text))
		}
		name, text, inValue = nil, nil, false
	}
	for i := 1; i < len(value); i++ {
		b := value[i]
		switch {
		case b == isVariable || b == userVariable:
			end()
			begun = true
			continue
		case b == isValue:
			inValue = true
			continue
		case b == escape && i+1 < len(value):
			i++
			b = value[i]
		}
		if inValue {
			text = append(text, b)
		} else {
			name = append(name, b)
		}
	}
	end()
}
