package door

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"golang.org/x/sys/unix"
)

// modes are a terminal's, as the kernel has them.
type modes struct {
	in, out, control, local uint32
	chars                   []byte
}

func parseModes(flags []uint32, chars string) (modes, error) {
	m := modes{in: flags[0], out: flags[1], control: flags[2], local: flags[3]}
	b, err := hex.DecodeString(chars)
	if err != nil || len(b) > 64 {
		return m, fmt.Errorf("%w: %d bytes of a terminal's characters", errMessage, len(chars))
	}
	m.chars = b
	return m, nil
}

// mode is one of those that SSH names by a number (RFC 4254, 8; OpenSSH's ttymodes.h).
type mode struct {
	opcode byte
	bit    uint32
}

const (
	opEnd    = 0
	opISpeed = 128
	opOSpeed = 129
	speed    = 38400 // of a terminal that has no line
)

// encode makes what a request for a terminal says of its modes.
func (m modes) encode() string {
	if len(m.chars) == 0 {
		return string([]byte{opEnd})
	}
	var b []byte
	add := func(op byte, value uint32) { b = binary.BigEndian.AppendUint32(append(b, op), value) }
	for _, c := range [...]struct {
		opcode byte
		index  int
	}{
		{1, unix.VINTR},
		{2, unix.VQUIT},
		{3, unix.VERASE},
		{4, unix.VKILL},
		{5, unix.VEOF},
		{6, unix.VEOL},
		{7, unix.VEOL2},
		{8, unix.VSTART},
		{9, unix.VSTOP},
		{10, unix.VSUSP},
		{12, unix.VREPRINT},
		{13, unix.VWERASE},
		{14, unix.VLNEXT},
		{18, unix.VDISCARD},
	} {
		if c.index < len(m.chars) {
			value := uint32(m.chars[c.index])
			if value == 0 {
				value = 255 // none
			}
			add(c.opcode, value)
		}
	}
	for _, group := range [...]struct {
		flags uint32
		modes []mode
	}{
		{m.in, []mode{
			{30, unix.IGNPAR},
			{31, unix.PARMRK},
			{32, unix.INPCK},
			{33, unix.ISTRIP},
			{34, unix.INLCR},
			{35, unix.IGNCR},
			{36, unix.ICRNL},
			{37, unix.IUCLC},
			{38, unix.IXON},
			{39, unix.IXANY},
			{40, unix.IXOFF},
			{41, unix.IMAXBEL},
			{42, unix.IUTF8},
		}},
		{m.local, []mode{
			{50, unix.ISIG},
			{51, unix.ICANON},
			{52, unix.XCASE},
			{53, unix.ECHO},
			{54, unix.ECHOE},
			{55, unix.ECHOK},
			{56, unix.ECHONL},
			{57, unix.NOFLSH},
			{58, unix.TOSTOP},
			{59, unix.IEXTEN},
			{60, unix.ECHOCTL},
			{61, unix.ECHOKE},
			{62, unix.PENDIN},
		}},
		{m.out, []mode{{70, unix.OPOST}, {71, unix.OLCUC}, {72, unix.ONLCR}, {73, unix.OCRNL}, {74, unix.ONOCR}, {75, unix.ONLRET}}},
		{m.control, []mode{{92, unix.PARENB}, {93, unix.PARODD}}},
	} {
		for _, f := range group.modes {
			value := uint32(0)
			if group.flags&f.bit != 0 {
				value = 1
			}
			add(f.opcode, value)
		}
	}
	size := uint32(0)
	if m.control&unix.CSIZE == unix.CS7 {
		size = 1
	}
	add(90, size)
	add(91, 1-size)
	add(opISpeed, speed)
	add(opOSpeed, speed)
	return string(append(b, opEnd))
}
