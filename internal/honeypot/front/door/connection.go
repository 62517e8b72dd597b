package door

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/entry"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/hello"
)

// endWithin is how long an sshd has that has lost its connection.
const endWithin = 5 * time.Second

// connection is one connection of an attacker, with an sshd of its own.
type connection struct {
	h       *Handler
	house   *house
	v       *front.Visit
	uid     uint32
	relay   *relay
	ear     *hello.Ear
	left    func() // it is no longer one that has not logged in
	persona event.PersonaSSH
	config  string          // its name
	ctx     context.Context //nolint:containedctx // of the visit, for what the door asks
	// ended is done when the connection is over, for what has still to end.
	ended context.Context //nolint:containedctx // see above

	channels atomic.Uint32 // numbered so far
	open     chan struct{}
	work     sync.WaitGroup
	over     chan struct{} // closed when the sshd has ended
	endOnce  sync.Once

	mu      sync.Mutex
	guest   *entry.Guest
	trouble error
	agents  *session
	closing bool
}

// Serve implements front.Handler.
func (h *Handler) Serve(ctx context.Context, v *front.Visit) string {
	defer v.Conn.Close() //nolint:errcheck // closed already, mostly
	persona := h.o.Persona(v.Lease.PotKey())
	leave, ok := h.lobby.enter(v.Lease.PotKey(), startupsOf(persona, h.o.Startups))
	defer leave()
	if !ok {
		_, _ = v.Conn.Write([]byte(exceeded))
		return TooMany
	}
	house := h.houseOf(h.o.Suite(v.Lease.PotKey()))
	control, err := house.await(ctx, doorWithin)
	if err != nil {
		return front.NoPot + err.Error()
	}
	config, err := house.configFor(persona)
	if err != nil {
		return front.NoPot + err.Error()
	}
	files, err := h.o.HostKeys(v.Lease.PotKey())
	var keys []string
	if err == nil {
		keys, err = house.keysFor(files)
	}
	if err != nil {
		h.log.ErrorContext(ctx, "no host keys", "session", v.Session, "error", err)
		return front.NoPot + err.Error()
	}
	ended, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &connection{
		h: h, house: house, v: v, ctx: ctx, ended: ended, persona: persona, config: config, left: leave, open: make(chan struct{}, maxChannels), over: make(chan struct{}), ear: hello.New(v.Rec.Note),
	}
	reason := c.run(ctx, control, keys)
	end()
	c.work.Wait()
	return reason
}

// run has an sshd speak with the attacker until one of both has had enough.
func (c *connection) run(ctx context.Context, control *line, keys []string) string {
	uid, err := c.house.enrol(c)
	if err != nil {
		return front.NoPot + err.Error()
	}
	c.uid = uid
	heard, err := c.begin(control, keys)
	if err != nil {
		c.house.dismiss(uid)
		c.h.log.ErrorContext(ctx, "no sshd was started", "session", c.v.Session, "error", err)
		return front.NoPot + err.Error()
	}
	defer c.leave()
	asServer(c.v.Conn)
	c.relay.run(ctx)
	c.finish(control)
	s := <-heard
	c.ear.End()
	if s.spoilt {
		c.house.spoil(c.config)
	}
	return c.why(ctx, s)
}

// begin starts the sshd; what it says is heard to its end.
func (c *connection) begin(control *line, keys []string) (<-chan *said, error) {
	from, to := ends(c.v)
	inner, server, err := c.h.room.pair(from, to)
	if err != nil {
		return nil, err
	}
	defer server.Close() //nolint:errcheck // the sshd has it
	r, w, err := os.Pipe()
	if err != nil {
		_ = inner.Close()
		return nil, fmt.Errorf("hear sshd: %w", err)
	}
	defer w.Close() //nolint:errcheck // the sshd has it
	args := []string{msgStart, strconv.Itoa(int(c.uid)), "-i", "-e", "-f", doorDir + "/" + c.config}
	for _, k := range keys {
		args = append(args, "-h", k)
	}
	c.relay = &relay{outer: c.v.Conn, inner: inner, hear: c.ear.Hear, idle: c.h.o.Idle}
	if err := control.send([]*os.File{server, w}, args...); err != nil {
		_ = inner.Close()
		_ = r.Close()
		return nil, err
	}
	heard := make(chan *said, 1)
	s := &said{note: c.v.Rec.Note, number: c.number, words: c.h.words}
	c.work.Go(func() {
		defer r.Close() //nolint:errcheck // read to its end
		s.read(r)
		heard <- s
	})
	return heard, nil
}

// finish returns when the sshd has ended.
func (c *connection) finish(control *line) {
	timer := time.NewTimer(endWithin)
	defer timer.Stop()
	select {
	case <-c.over:
		return
	case <-timer.C:
	}
	_ = control.send(nil, msgKill, strconv.Itoa(int(c.uid)))
	timer.Reset(endWithin)
	select {
	case <-c.over:
	case <-timer.C:
		c.h.log.Error("an sshd does not end", "session", c.v.Session)
	}
}

// sshdEnded is told when the sshd has ended.
func (c *connection) sshdEnded(int) { c.endOnce.Do(func() { close(c.over) }) }

// leave ends what the connection has in the pot.
func (c *connection) leave() {
	c.house.dismiss(c.uid)
	c.mu.Lock()
	c.closing = true
	guest := c.guest
	c.mu.Unlock()
	if guest != nil {
		guest.Close()
	}
}

// why says why the connection ended.
func (c *connection) why(ctx context.Context, s *said) string {
	c.mu.Lock()
	trouble, guest := c.trouble, c.guest
	c.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx).Error()
	case trouble != nil:
		return front.NoPot + trouble.Error()
	case c.relay.idled():
		return Idle
	case guest != nil:
		return AttackerClosed
	case s.grace:
		return TooSlow
	case s.tries:
		return Refused
	case !c.ear.Spoke() && len(c.ear.Start()) > 0:
		c.v.Rec.Note(event.Evidence{Kind: event.EvidenceMalformed, Data: event.Bytes(c.ear.Start())})
		return NotSSH
	}
	return AttackerClosed
}

func (c *connection) number() uint32 { return c.channels.Add(1) }

// guess answers PAM.
func (c *connection) decide(l *line, m guess) error {
	delay := strconv.FormatInt(c.h.o.FailDelay.Microseconds(), 10)
	c.mu.Lock()
	already, closing := c.guest != nil, c.closing
	c.mu.Unlock()
	if already || closing || (m.method != entry.Password && m.method != entry.Interactive) {
		return l.send(nil, msgNo, delay)
	}
	if reserved(m.account) {
		if err := c.h.o.Entry.Refuse(c.v, m.method, m.account, m.password); err != nil {
			return err
		}
		return l.send(nil, msgNo, delay)
	}
	guest, err := c.h.o.Entry.Guess(c.ctx, c.v, m.method, m.account, m.password)
	c.mu.Lock()
	if err != nil {
		c.trouble = err
	}
	if guest != nil && c.closing {
		c.mu.Unlock()
		guest.Close()
		return l.send(nil, msgNo, delay)
	}
	c.guest = guest
	c.mu.Unlock()
	if guest == nil {
		return l.send(nil, msgNo, delay)
	}
	c.work.Go(func() { c.fromPot(guest) })
	c.work.Go(func() {
		guest.Pot.Wait() // the pot's server has ended the connection, or we have
		c.relay.close()
	})
	return l.send(nil, msgOK, delay)
}

// reserved are the accounts that a door has itself.
func reserved(account string) bool { return account == "sshd" || account == "_door" }

// guestIn returns who got in, or nil.
func (c *connection) guestIn() *entry.Guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.guest
}

// enterNetwork gives the sshd of one who got in its pot's network: what is forwarded comes from there, and ends there.
func (c *connection) enterNetwork(l *line) error {
	guest := c.guestIn()
	if guest == nil {
		return l.send(nil, msgNo)
	}
	f, err := c.h.o.Network(guest.Stay)
	if err != nil {
		_ = l.send(nil, msgNo)
		return fmt.Errorf("open the pot's network: %w", err)
	}
	defer f.Close() //nolint:errcheck // a handle
	c.left()
	c.relay.settle()
	return l.send([]*os.File{f}, msgOK)
}

// offered notes a public key.
func (c *connection) offered(m offer) {
	data, err := base64.StdEncoding.DecodeString(m.key)
	if err != nil {
		return
	}
	key, err := ssh.ParsePublicKey(data)
	if err != nil {
		return
	}
	entry.Offered(c.v, m.account, key)
}

// tune has the packets to the attacker look as those of an sshd whose session runs: what passes between it and us does not
// show them (sshd_config's IPQoS).
func (c *connection) tune(terminal bool) {
	tos := tosOf(c.persona, terminal)
	if t, ok := c.v.Conn.(interface{ SetNoDelay(bool) error }); ok && terminal {
		_ = t.SetNoDelay(true)
	}
	sc, ok := c.v.Conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TOS, tos)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TCLASS, tos)
	})
}

func (c *connection) setAgent(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.agents = s
}

func (c *connection) forgetAgent(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.agents == s {
		c.agents = nil
	}
}

func (c *connection) agent() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agents
}
