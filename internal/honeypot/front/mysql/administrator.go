package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Refuses implements front.PotAccounts.
func (c *conversation) Refuses(account string) bool {
	admin, err := c.administrator(account)
	if err == nil {
		_ = admin.conn.Close()
	}
	_, is := errors.AsType[refusal](err)
	return is
}

// Admit implements front.PotAccounts: it makes an account, unless that is the administrator's own.
func (c *conversation) Admit(account string) error {
	if account == c.account {
		return nil
	}
	admin, err := c.administrator(c.account)
	if err != nil {
		return err
	}
	defer admin.conn.Close() //nolint:errcheck // all was answered
	// The policy lets nobody in with a name in which there is anything to quote.
	name := fmt.Sprintf("'%s'@'%%' IDENTIFIED BY '%s'", account, strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(c.own))
	if err = admin.do("CREATE USER " + name); err == nil {
		return admin.do(fmt.Sprintf("GRANT ALL ON *.* TO '%s'@'%%'", account))
	}
	if _, is := errors.AsType[refusal](err); is { // the pot has it, with what it may
		return admin.do("ALTER USER " + name)
	}
	return err
}

// refusal is an error of the server.
type refusal struct{ text string }

// Error implements error.
func (r refusal) Error() string { return "the pot's server says " + r.text }

// administrator is a connection by the pot's own password.
type administrator struct{ conn net.Conn }

func (c *conversation) administrator(account string) (administrator, error) {
	ctx, cancel := context.WithTimeout(c.ctx, settleWithin)
	defer cancel()
	conn, err := c.stay.Dial(ctx, event.MySQL)
	if err != nil {
		return administrator{}, err
	}
	_ = conn.SetDeadline(time.Now().Add(settleWithin))
	a := administrator{conn}
	if err := a.enter(account, c.own); err != nil {
		_ = conn.Close()
		return administrator{}, fmt.Errorf("log in to the pot: %w", err)
	}
	return a, nil
}

// enter logs in.
func (a administrator) enter(account, password string) error {
	p, err := a.read()
	if err != nil {
		return err
	}
	g, ok := readGreeting(p.body)
	if !ok {
		return fmt.Errorf("it begins with %.60q", p.body)
	}
	const caps = capProtocol41 | capSecure | capPlugin
	l := login{caps: caps, fixed: make([]byte, responseFixedPart), account: []byte(account)}
	l.fixed[0], l.fixed[1], l.fixed[2] = byte(caps&0xff), byte(caps>>8&0xff), byte(caps>>16)
	l.fixed[6], l.fixed[8] = 1, 33 // packets of 64 KiB, UTF-8
	if _, err := a.conn.Write(appendPacket(nil, 1, l.with(native(password, g.challenge), nativePassword))); err != nil {
		return fmt.Errorf("answer its challenge: %w", err)
	}
	if p, err = a.read(); err != nil {
		return err
	}
	if p.body[0] == isSwitch {
		_, challenge := readSwitch(p.body)
		if _, err := a.conn.Write(appendPacket(nil, p.seq+1, native(password, challenge))); err != nil {
			return fmt.Errorf("answer its challenge: %w", err)
		}
		_, err = a.read()
	}
	return err
}

// do has the server run a statement that has no rows.
func (a administrator) do(statement string) error {
	const query = 3
	if _, err := a.conn.Write(appendPacket(nil, 0, append([]byte{query}, statement...))); err != nil {
		return fmt.Errorf("ask the pot's server: %w", err)
	}
	_, err := a.read()
	return err
}

// read reads a packet that is no error.
func (a administrator) read() (packet, error) {
	b := make([]byte, headerSize, maxHandshake)
	if _, err := io.ReadFull(a.conn, b); err != nil {
		return packet{}, fmt.Errorf("read from the pot's server: %w", err)
	}
	n := bodySize(b)
	if n == 0 || headerSize+n > maxHandshake {
		return packet{}, fmt.Errorf("the pot's server sends a packet of %d bytes", n)
	}
	b = b[:headerSize+n]
	if _, err := io.ReadFull(a.conn, b[headerSize:]); err != nil {
		return packet{}, fmt.Errorf("read from the pot's server: %w", err)
	}
	p, _, _ := cutPacket(b)
	if p.body[0] == isError {
		return packet{}, refusal{fmt.Sprintf("%.200q", p.body[1:])}
	}
	return p, nil
}
