package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// scenario is something that a client does.
type scenario struct {
	name   string
	source string // of its connections; empty: an address of its own; local: 127.0.0.1, of clients that can't be told another
	do     func(s *session)
}

const (
	local = "127.0.0.1"
	six   = "::1"
)

// session counts what a scenario really did.
type session struct {
	c                       *capture
	source                  string
	guesses, logins, probes int
}

// made is a scenario of a client that does not tell what it did.
func made(name, source string, guesses, logins int, do func()) scenario {
	return scenario{name: name, source: source, do: func(s *session) { do(); s.guesses, s.logins = guesses, logins }}
}

// play plays scenarios, and has each of the files say what was logged meanwhile.
func (c *capture) play(list []scenario, files ...*file) {
	settle(files)
	for _, f := range files {
		if text := f.take(); f.start {
			f.text.WriteString("## start | source 127.0.0.1 | guesses 0 | logins 0\n" + text)
		}
	}
	for _, one := range list {
		c.next++
		s := &session{c: c, source: one.source}
		if s.source == "" {
			s.source = fmt.Sprintf("127.0.%d.%d", 1+c.next/200, 1+c.next%200)
		}
		one.do(s)
		settle(files)
		for _, f := range files {
			fmt.Fprintf(&f.text, "## %s | source %s | guesses %d | logins %d", one.name, s.source, s.guesses, s.logins)
			if f.probes {
				fmt.Fprintf(&f.text, " | probes %d", s.probes)
			}
			f.text.WriteString("\n" + f.take())
		}
	}
}

// settle waits until nothing is logged any more.
func settle(files []*file) {
	const quiet, step = 700 * time.Millisecond, 50 * time.Millisecond
	for still := time.Duration(0); still < quiet; still += step {
		time.Sleep(step)
		for _, f := range files {
			for _, l := range f.logs {
				if l.from.grew() {
					still = 0
				}
			}
		}
	}
}

// dial connects from the scenario's source.
func (s *session) dial(port int) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	to := address(local, port)
	if strings.Contains(s.source, ":") {
		to = address(six, port)
	} else {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(s.source)}
	}
	conn, err := d.Dial("tcp", to)
	if err != nil {
		fmt.Fprintln(os.Stderr, s.source, err)
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// raw sends bytes that may be no protocol of anybody's; with wait it looks whether there is an answer.
func (s *session) raw(port int, text string, wait bool) {
	conn, err := s.dial(port)
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(text))
	if wait {
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = conn.Read(make([]byte, 4096))
	}
}
