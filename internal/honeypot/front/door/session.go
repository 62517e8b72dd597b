package door

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/bridge"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/catch"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/entry"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/inside"
)

const (
	maxCommand  = 64 << 10 // bytes of a command that are kept
	maxVariable = 4096     // bytes of a variable that are kept
	maxTerm     = 64       // bytes of a terminal's name that are kept
)

// session is something that the attacker runs.
type session struct {
	c       *connection
	number  uint32
	line    *line
	seat    *seat
	program *inside.Program
	start   event.Start
	gone    chan struct{}  // closed when the attacker has closed its end
	agents  chan *os.File  // connections to the client's agent
	asking  sync.Mutex     // for one of them at a time
	leave   func()         // closes gone
	work    sync.WaitGroup // that ends with the line
}

// session joins what sshd started with a program in the pot, until one of both has ended.
func (c *connection) session(ctx context.Context, l *line, m start, files []*os.File) {
	guest := c.guestIn()
	if guest == nil {
		closeAll(files)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(c.ended, cancel) //nolint:contextcheck // the connection may end before the door does
	defer stop()
	seat, err := newSeat(l, files, m.terminal)
	if err != nil {
		closeAll(files)
		c.h.log.ErrorContext(ctx, "a session was not begun", "session", c.v.Session, "error", err)
		return
	}
	defer seat.Close() //nolint:errcheck // closed already, mostly
	program, err := guest.Pot.Program()
	if err != nil {
		return
	}
	defer program.Close() //nolint:errcheck // closed already, mostly
	s := &session{c: c, number: c.number(), line: l, seat: seat, program: program, gone: make(chan struct{}), agents: make(chan *os.File, 1)}
	s.leave = sync.OnceFunc(func() { close(s.gone) })
	if !s.begin(m) {
		return
	}
	c.tune(m.terminal)
	leave := context.AfterFunc(ctx, s.leave)
	defer leave()
	s.work.Go(func() { s.follow() })
	tap, finished := catch.Session{
		Rec: c.v.Rec, Channel: s.number, Start: s.start, Account: guest.Account, PID: guest.Stay.PID(),
	}.Observe(ctx)
	bridge.Run(bridge.Options{
		Seat: seat, Program: program, Rec: c.v.Rec, Channel: s.number, Start: s.start, Tap: tap, Finished: finished, Gone: s.gone,
	})
	c.forgetAgent(s)
	l.close()
	s.work.Wait()
}

func (s *session) note(e event.Evidence) {
	e.Channel = s.number
	s.c.v.Rec.Note(e)
}

// begin has the pot start what the client asked for (RFC 4254, 6).
func (s *session) begin(m start) bool {
	if m.terminal {
		s.start.Term, s.start.Width, s.start.Height = front.Clip(m.term, maxTerm), m.window.width, m.window.height
		if s.start.Term == "" {
			s.start.Term = "dumb"
		}
		s.program.Ask("pty-req", true, ssh.Marshal(struct {
			Term                                     string
			Width, Height, WidthPixels, HeightPixels uint32
			Modes                                    string
		}{m.term, m.window.width, m.window.height, m.window.widthPixels, m.window.heightPixels, m.modes.encode()}))
	}
	for _, v := range m.env {
		s.note(event.Evidence{Kind: event.EvidenceVariable, Variable: &event.Variable{
			Name: front.Clip(v.name, maxVariable), Value: front.Clip(v.value, maxVariable),
		}})
		s.program.Ask("env", false, ssh.Marshal(struct{ Name, Value string }{v.name, v.value}))
	}
	if m.agent && s.program.Ask("auth-agent-req@openssh.com", true, nil) {
		s.c.setAgent(s)
	}
	what, command := m.what, m.command
	if name, ok := strings.CutPrefix(command, s.c.house.mark()+" "); ok && what == "exec" {
		what, command = "subsystem", name
	}
	s.start.What = what
	var payload []byte
	if what != "shell" {
		s.start.Command = front.Clip(command, maxCommand)
		payload = ssh.Marshal(struct{ Command string }{command})
	}
	ok := s.program.Ask(what, true, payload)
	noted := s.start
	noted.Refused = !ok
	s.note(event.Evidence{Kind: event.EvidenceStart, Start: &noted})
	return ok
}

// follow hears what else the client wants of the session, until it has closed it.
func (s *session) follow() {
	defer s.leave()
	defer func() {
		select {
		case f := <-s.agents:
			closeAll([]*os.File{f})
		default:
		}
	}()
	for {
		fields, files, err := s.line.receive()
		if err != nil {
			return
		}
		got, err := parse(fields)
		if err != nil {
			closeAll(files)
			return
		}
		if got == any(msgAgent) {
			s.agentCame(files)
			continue
		}
		closeAll(files)
		switch m := got.(type) {
		case window:
			s.note(event.Evidence{Kind: event.EvidenceSize, Size: &event.Size{Width: m.width, Height: m.height}})
			s.program.Ask("window-change", false, ssh.Marshal(m.message()))
		case signal:
			s.note(event.Evidence{Kind: event.EvidenceSignal, Signal: string(m)})
			s.program.Ask("signal", false, ssh.Marshal(struct{ Signal string }{string(m)}))
		case string: // it is gone
			s.leave()
		}
	}
}

type windowMessage struct{ Width, Height, WidthPixels, HeightPixels uint32 }

func (w window) message() windowMessage {
	return windowMessage{w.width, w.height, w.widthPixels, w.heightPixels}
}

func (s *session) agentCame(files []*os.File) {
	var f *os.File
	if len(files) > 0 {
		f = files[0]
		closeAll(files[1:])
	}
	select {
	case s.agents <- f:
	default:
		closeAll([]*os.File{f})
	}
}

// dialAgent has the session's end in the door connect to the client's agent; nil where that failed.
func (s *session) dialAgent() *os.File {
	s.asking.Lock()
	defer s.asking.Unlock()
	if s.line.send(nil, msgAgent) != nil {
		return nil
	}
	select {
	case f := <-s.agents:
		return f
	case <-s.gone:
		return nil
	}
}

// fromPot serves what the pot opens: the agent is where the attacker is.
func (c *connection) fromPot(g *entry.Guest) {
	g.FromPot(c.open, func(nc ssh.NewChannel) func() {
		s := c.agent()
		if nc.ChannelType() != "auth-agent@openssh.com" || s == nil {
			return nil
		}
		return func() { c.joinAgent(nc, s) }
	})
}

func (c *connection) joinAgent(nc ssh.NewChannel, s *session) {
	f := s.dialAgent()
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceForward, Channel: c.number(), Forward: &event.Forward{What: nc.ChannelType(), Refused: f == nil}})
	if f == nil {
		_ = nc.Reject(ssh.ConnectionFailed, "open failed")
		return
	}
	agent, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "open failed")
		return
	}
	defer agent.Close() //nolint:errcheck // closed already, mostly
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs) // ends with the channel
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(agent, ch); _ = agent.Close() })
	both.Go(func() { _, _ = io.Copy(ch, agent); _ = ch.Close() })
	both.Wait()
}
