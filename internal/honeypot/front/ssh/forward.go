package ssh

import (
	"io"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/inside"
	"github.com/kokkuri/kokkuri/internal/recording"
)

const (
	maxAddress  = 512 // bytes of a destination that are kept
	forwardSize = 32 << 10
)

// requests answers the connection's own requests; what concerns forwarding, the pot answers.
func (c *connection) requests(reqs <-chan *ssh.Request) {
	for req := range reqs {
		ok, reply := c.ask(req)
		if req.WantReply {
			_ = req.Reply(ok, reply)
		}
	}
}

func (c *connection) ask(req *ssh.Request) (bool, []byte) {
	var f event.Forward
	switch req.Type {
	case "tcpip-forward", "cancel-tcpip-forward":
		var m struct {
			Address string
			Port    uint32
		}
		if ssh.Unmarshal(req.Payload, &m) != nil {
			return false, nil
		}
		f = event.Forward{What: req.Type, Destination: front.Clip(m.Address, maxAddress), Port: m.Port}
	case "streamlocal-forward@openssh.com", "cancel-streamlocal-forward@openssh.com":
		var m struct{ Path string }
		if ssh.Unmarshal(req.Payload, &m) != nil {
			return false, nil
		}
		f = event.Forward{What: req.Type, Destination: front.Clip(m.Path, maxAddress)}
	default:
		return false, nil
	}
	ok, reply, err := c.guest.Pot.Ask(req.Type, true, req.Payload)
	f.Refused = !ok || err != nil
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceForward, Forward: &f})
	return !f.Refused, reply
}

// destination reads what a channel of a forwarded connection is about (RFC 4254, 7.2, and OpenSSH's
// PROTOCOL, 2.4).
func destination(kind string, payload []byte) (event.Forward, bool) {
	f := event.Forward{What: kind}
	switch kind {
	case "direct-tcpip", "forwarded-tcpip":
		var m struct {
			Address    string
			Port       uint32
			Origin     string
			OriginPort uint32
		}
		if ssh.Unmarshal(payload, &m) != nil {
			return f, false
		}
		f.Destination, f.Port = front.Clip(m.Address, maxAddress), m.Port
		f.Origin, f.OriginPort = front.Clip(m.Origin, maxAddress), m.OriginPort
	default:
		var m struct {
			Path string
			Rest []byte `ssh:"rest"`
		}
		if ssh.Unmarshal(payload, &m) != nil {
			return f, false
		}
		f.Destination = front.Clip(m.Path, maxAddress)
	}
	return f, true
}

// forward connects the client to where the pot can get to.
func (c *connection) forward(nc ssh.NewChannel) {
	f, ok := destination(nc.ChannelType(), nc.ExtraData())
	if !ok {
		_ = nc.Reject(ssh.ConnectionFailed, "open failed")
		return
	}
	number := c.number()
	inner, reqs, err := c.guest.Pot.Open(nc.ChannelType(), nc.ExtraData())
	f.Refused = err != nil
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceForward, Channel: number, Forward: &f})
	if err != nil {
		reason, message := inside.Refusal(err)
		_ = nc.Reject(reason, message)
		return
	}
	outer, outerReqs, err := nc.Accept()
	if err != nil {
		_ = inner.Close()
		return
	}
	c.join(number, outer, inner, outerReqs, reqs)
}

// fromPot offers the client the connections that the pot got at ports that it listens on for the client, and those to the
// client's agent.
func (c *connection) fromPot() {
	c.guest.FromPot(c.open, func(nc ssh.NewChannel) func() {
		f, ok := destination(nc.ChannelType(), nc.ExtraData())
		switch nc.ChannelType() {
		case "forwarded-tcpip", "forwarded-streamlocal@openssh.com":
		case "auth-agent@openssh.com":
			f, ok = event.Forward{What: nc.ChannelType()}, c.agent.Load()
		default:
			ok = false
		}
		if !ok {
			return nil
		}
		return func() { c.offer(nc, f) }
	})
}

func (c *connection) offer(nc ssh.NewChannel, f event.Forward) {
	number := c.number()
	outer, outerReqs, err := c.opener.Open(nc.ChannelType(), nc.ExtraData())
	f.Refused = err != nil
	c.v.Rec.Note(event.Evidence{Kind: event.EvidenceForward, Channel: number, Forward: &f})
	if err != nil {
		reason, message := inside.Refusal(err)
		_ = nc.Reject(reason, message)
		return
	}
	inner, reqs, err := nc.Accept()
	if err != nil {
		_ = outer.Close()
		return
	}
	c.join(number, outer, inner, outerReqs, reqs)
}

// join passes the bytes of a forwarded connection until both directions have ended, or a side has
// closed its channel and what it sent before has been passed on.
func (c *connection) join(number uint32, outer, inner ssh.Channel, outerReqs, innerReqs <-chan *ssh.Request) {
	var all sync.WaitGroup
	way := func(kind recording.Kind, dst, src ssh.Channel, srcReqs <-chan *ssh.Request) {
		done := make(chan struct{})
		all.Go(func() { defer close(done); c.pump(number, kind, dst, src) })
		all.Go(func() {
			ssh.DiscardRequests(srcReqs) // until the source is closed
			<-done
			_ = dst.Close()
		})
	}
	way(recording.In, inner, outer, outerReqs)
	way(recording.Out, outer, inner, innerReqs)
	all.Wait()
}

func (c *connection) pump(number uint32, kind recording.Kind, dst, src ssh.Channel) {
	buf := make([]byte, forwardSize)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			c.v.Rec.Record(kind, number, buf[:n])
			if _, err := dst.Write(buf[:n]); err != nil {
				_ = src.Close()
				_, _ = io.Copy(io.Discard, src)
				return
			}
		}
		if err != nil {
			_ = dst.CloseWrite()
			return
		}
	}
}
