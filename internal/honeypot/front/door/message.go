package door

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bounds of what comes out of a door (node.h has the same).
const (
	maxMessage   = 200 << 10 // bytes
	maxFiles     = 3         // descriptors beside a message
	maxVariables = 256
)

// Names of messages.
const (
	msgDoor    = "door"    // the first process of a door is there
	msgStart   = "start"   // to it: start an sshd
	msgKill    = "kill"    // to it: end one
	msgExit    = "exit"    // from it: one has ended; to a seat: end like this
	msgAuth    = "auth"    // somebody guesses
	msgOpen    = "open"    // somebody who guessed right wants the pot's network
	msgKey     = "key"     // somebody offers a public key
	msgSession = "session" // somebody runs something
	msgWindow  = "window"  // the window of a session's terminal changed
	msgSignal  = "signal"  // the client sends a session's program a signal; to a seat: end by this one
	msgGone    = "gone"    // the client has closed a session
	msgAgent   = "agent"   // to a seat: connect to the client's agent; from it: here
	msgOK      = "ok"
	msgNo      = "no"
)

var errMessage = errors.New("message from a door")

// encode makes a message of fields, none of which has a zero byte.
func encode(fields ...string) []byte {
	var b []byte
	for _, f := range fields {
		b = append(append(b, f...), 0)
	}
	return b
}

// decode takes a message apart.
func decode(b []byte) ([]string, error) {
	if len(b) == 0 || len(b) > maxMessage || b[len(b)-1] != 0 {
		return nil, fmt.Errorf("%w: %d bytes that are no fields", errMessage, len(b))
	}
	return strings.Split(string(b[:len(b)-1]), "\x00"), nil
}

// guess is a decision that sshd's PAM asks for.
type guess struct {
	uid                       uint32
	method, account, password string
}

// offer is a public key that a client offers.
type offer struct {
	uid       uint32
	kind, key string
	account   string
}

// exit is the end of an sshd.
type exit struct {
	uid    uint32
	status int // as wait(2) has it
}

// start is what a session is to run, and the terminal that it has.
type start struct {
	what     string // shell or exec
	command  string
	terminal bool
	term     string
	window   window
	modes    modes
	agent    bool // the client forwards its agent
	env      []variable
}

type variable struct{ name, value string }

type window struct{ width, height, widthPixels, heightPixels uint32 }

// parse reads a message's fields into what its name says; the result's type tells.
func parse(fields []string) (any, error) {
	name, rest := fields[0], fields[1:]
	switch name {
	case msgDoor, msgGone, msgAgent:
		return name, nil
	case msgAuth:
		return parseGuess(rest)
	case msgOpen:
		if len(rest) == 1 {
			return uidOf(rest[0])
		}
	case msgKey:
		if len(rest) == 4 {
			uid, err := uidOf(rest[0])
			return offer{uid: uid, kind: rest[1], key: rest[2], account: rest[3]}, err
		}
	case msgExit:
		if len(rest) == 2 {
			uid, err := uidOf(rest[0])
			status, err2 := numbers(rest[1:], 1)
			if err = errors.Join(err, err2); err == nil {
				return exit{uid: uid, status: int(status[0])}, nil
			}
			return nil, err
		}
	case msgSession:
		return parseStart(rest)
	case msgWindow:
		return parseWindow(rest)
	case msgSignal:
		if len(rest) == 1 && len(rest[0]) > 0 && len(rest[0]) <= 8 {
			return signal(rest[0]), nil
		}
	}
	return nil, fmt.Errorf("%w: %.16q with %d fields", errMessage, name, len(rest))
}

// signal is a signal's name without SIG.
type signal string

func parseGuess(f []string) (any, error) {
	if len(f) != 4 {
		return nil, fmt.Errorf("%w: a guess with %d fields", errMessage, len(f))
	}
	uid, err := uidOf(f[0])
	return guess{uid: uid, method: f[1], account: f[2], password: f[3]}, err
}

func parseWindow(f []string) (window, error) {
	n, err := numbers(f, 4)
	if err != nil {
		return window{}, err
	}
	return window{n[0], n[1], n[2], n[3]}, nil
}

func parseStart(f []string) (any, error) {
	const head = 14 // fields before the variables
	if len(f) < head || len(f) > head+maxVariables {
		return nil, fmt.Errorf("%w: a session with %d fields", errMessage, len(f))
	}
	s := start{what: f[0], command: f[1], terminal: f[2] == "tty", term: f[3], agent: f[13] == "agent"}
	if s.what != "shell" && s.what != "exec" {
		return nil, fmt.Errorf("%w: a session of %.16q", errMessage, s.what)
	}
	var err error
	if s.window, err = parseWindow(f[4:8]); err != nil {
		return nil, err
	}
	flags, err := numbers(f[8:12], 4)
	if err != nil {
		return nil, err
	}
	if s.modes, err = parseModes(flags, f[12]); err != nil {
		return nil, err
	}
	for _, v := range f[head:] {
		if name, value, ok := strings.Cut(v, "="); ok && name != "" {
			s.env = append(s.env, variable{name, value})
		}
	}
	return s, nil
}

func numbers(f []string, n int) ([]uint32, error) {
	if len(f) != n {
		return nil, fmt.Errorf("%w: %d numbers instead of %d", errMessage, len(f), n)
	}
	out := make([]uint32, n)
	for i, s := range f {
		v, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%w: %.16q is no number", errMessage, s)
		}
		out[i] = uint32(v)
	}
	return out, nil
}

// Every connection has a user id of its own in the door.
const (
	firstUID = 10000
	lastUID  = 59999
)

func uidOf(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n < firstUID || n > lastUID {
		return 0, fmt.Errorf("%w: %.16q is no connection's user id", errMessage, s)
	}
	return uint32(n), nil
}
