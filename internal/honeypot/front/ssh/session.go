package ssh

import (
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/bridge"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/catch"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/inside"
)

const (
	maxCommand  = 64 << 10 // bytes of a command that are kept
	maxVariable = 4096     // bytes of a variable that are kept
)

// session is a channel in which the client runs something.
type session struct {
	c       *connection
	number  uint32
	ch      ssh.Channel
	program *inside.Program
	start   event.Start
	running bool
	gone    chan struct{} // closed when the client has closed the channel
}

// session serves a session's channel. Its counterpart in the pot is opened first: the pot's own server
// decides how many there may be.
func (c *connection) session(nc ssh.NewChannel) {
	program, err := c.guest.Pot.Program()
	if err != nil {
		reason, message := inside.Refusal(err)
		_ = nc.Reject(reason, message)
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		_ = program.Close()
		return
	}
	s := &session{c: c, number: c.number(), ch: ch, program: program, gone: make(chan struct{})}
	for req := range reqs {
		ok := s.request(req)
		if req.WantReply {
			_ = req.Reply(ok, nil)
		}
		if ok && s.start.What != "" && !s.running {
			s.run()
		}
	}
	close(s.gone)
	if !s.running {
		_ = program.Close()
	}
}

// request passes a request on to the pot, notes it, and returns the pot's answer (RFC 4254, 6).
func (s *session) request(req *ssh.Request) bool {
	switch req.Type {
	case "shell", "exec", "subsystem":
		return !s.running && s.begin(req)
	case "pty-req":
		return s.terminal(req)
	case "env":
		return s.variable(req)
	case "window-change":
		return s.resize(req)
	case "signal":
		var m struct{ Signal string }
		if ssh.Unmarshal(req.Payload, &m) != nil || m.Signal == "" {
			return false
		}
		s.note(event.Evidence{Kind: event.EvidenceSignal, Signal: string(front.Clip(m.Signal, maxName))})
		return s.pass(req)
	case "auth-agent-req@openssh.com":
		s.c.agent.Store(true)
		return s.pass(req)
	case "break", "xon-xoff", "eow@openssh.com":
		return s.pass(req)
	}
	return false
}

func (s *session) pass(req *ssh.Request) bool {
	return s.program.Ask(req.Type, req.WantReply, req.Payload)
}

func (s *session) note(e event.Evidence) {
	e.Channel = s.number
	s.c.v.Rec.Note(e)
}

func (s *session) terminal(req *ssh.Request) bool {
	var m struct {
		Term                                     string
		Width, Height, WidthPixels, HeightPixels uint32
		Modes                                    string
	}
	if ssh.Unmarshal(req.Payload, &m) != nil || !s.program.Ask(req.Type, true, req.Payload) {
		return false
	}
	s.start.Term, s.start.Width, s.start.Height = front.Clip(m.Term, maxName), m.Width, m.Height
	if s.start.Term == "" {
		s.start.Term = "dumb"
	}
	return true
}

func (s *session) variable(req *ssh.Request) bool {
	var m struct{ Name, Value string }
	if ssh.Unmarshal(req.Payload, &m) != nil {
		return false
	}
	s.note(event.Evidence{Kind: event.EvidenceVariable, Variable: &event.Variable{
		Name: front.Clip(m.Name, maxVariable), Value: front.Clip(m.Value, maxVariable),
	}})
	return s.pass(req)
}

func (s *session) resize(req *ssh.Request) bool {
	var m struct{ Width, Height, WidthPixels, HeightPixels uint32 }
	if ssh.Unmarshal(req.Payload, &m) != nil {
		return false
	}
	s.note(event.Evidence{Kind: event.EvidenceSize, Size: &event.Size{Width: m.Width, Height: m.Height}})
	return s.pass(req)
}

// begin has the pot start what the client asks for.
func (s *session) begin(req *ssh.Request) bool {
	start := s.start
	start.What = req.Type
	command := ""
	if req.Type != "shell" {
		var m struct{ Command string }
		if ssh.Unmarshal(req.Payload, &m) != nil {
			return false
		}
		command = m.Command
		start.Command = front.Clip(command, maxCommand)
	}
	ok := s.program.Ask(req.Type, true, req.Payload)
	start.Refused = !ok
	s.note(event.Evidence{Kind: event.EvidenceStart, Start: &start})
	if ok {
		s.start = start
	}
	return ok
}

// run passes bytes until the program ends; requests go on meanwhile.
func (s *session) run() {
	s.running = true
	tap, finished := catch.Session{
		Rec: s.c.v.Rec, Channel: s.number, Start: s.start, Account: s.c.guest.Account, PID: s.c.guest.Stay.PID(),
	}.Observe(s.c.ctx)
	s.c.work.Go(func() {
		bridge.Run(bridge.Options{
			Seat: seat{s.ch}, Program: s.program, Rec: s.c.v.Rec, Channel: s.number, Start: s.start,
			Tap: tap, Finished: finished, Gone: s.gone,
		})
	})
}

// seat is an SSH channel as the bridge sees it.
type seat struct{ ssh.Channel }

// Exit tells the client how the program ended (RFC 4254, 6.10).
func (s seat) Exit(e event.Exit) {
	if e.Signal != "" {
		_, _ = s.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal        string
			Core          bool
			Message, Lang string
		}{Signal: e.Signal, Core: e.Core}))
		return
	}
	_, _ = s.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(e.Status)}))
}
