package inside

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/crypto/ssh"
)

// administrator is who starts what runs on a machine.
const administrator = "root"

// Run runs a command in a pot, over a connection to its SSH server, as its administrator would, and returns when
// it has ended. What it leaves running knows nothing of where it was started from.
func (a *Authority) Run(ctx context.Context, conn net.Conn, command string) error {
	c, err := a.Login(ctx, conn, administrator, "")
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, c.Close)
	defer stop()
	defer c.Close()
	p, err := c.Program()
	if err != nil {
		return err
	}
	// What it leaves running must not hold the session: its outputs would be the session's.
	line := "cd / && env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 " + command +
		" >/dev/null 2>&1 </dev/null"
	if !p.Ask("exec", true, ssh.Marshal(struct{ Command string }{line})) {
		return errors.Join(fmt.Errorf("run %q in the pot: it refuses", command), context.Cause(ctx))
	}
	exit, ok := p.Wait()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("run %q in the pot: %w", command, context.Cause(ctx))
	case !ok || exit.Status != 0 || exit.Signal != "":
		return fmt.Errorf("run %q in the pot: it ended with %d %s", command, exit.Status, exit.Signal)
	}
	return nil
}
