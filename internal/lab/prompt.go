package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/event"
)

// boundPrompt is how many times as long as the real server a pot may take to a prompt.
const boundPrompt = 1.2

// promptCount is how many prompts a bench waits for on each side.
const promptCount = 30

// Prompts is how long it takes from a connection to a shell's prompt.
type Prompts struct {
	Real  Leg     `json:"real"`
	Pot   Leg     `json:"pot"`
	Ratio float64 `json:"ratio"` // of the medians
}

// Prompts measures n logins at web's real sshd, and as many in a pot, in turn.
func (l *Lab) Prompts(ctx context.Context, n int) (Prompts, error) {
	from, err := l.NewSource(ctx)
	if err != nil {
		return Prompts{}, err
	}
	if _, err := l.Attacker.Guess(ctx, from, PotAccount, "alpha", "bravo", "charlie", "delta", "echo"); err == nil {
		return Prompts{}, errors.New("the attacker was let in")
	}
	if _, err := l.WaitRedirect(ctx, from, 10*time.Second, event.Active); err != nil {
		return Prompts{}, err
	}
	shell, err := l.Attacker.Login(ctx, Login{From: from, Account: PotAccount, Passwords: []string{PotDecoy, PotPassword}})
	if err != nil {
		return Prompts{}, err
	}
	if err := shell.Close(); err != nil {
		return Prompts{}, err
	}
	var reals, pots []time.Duration
	for range n {
		took, err := l.User.prompt(ctx, Login{From: UserAddr(), Account: UserAccount, Passwords: []string{UserPassword}})
		if err != nil {
			return Prompts{}, fmt.Errorf("the real host: %w", err)
		}
		reals = append(reals, took)
		if took, err = l.Attacker.prompt(ctx, Login{From: from, Account: PotAccount, Passwords: []string{PotPassword}}); err != nil {
			return Prompts{}, fmt.Errorf("the pot: %w", err)
		}
		pots = append(pots, took)
	}
	p := Prompts{Real: legOf("real sshd", reals), Pot: legOf("pot", pots)}
	p.Ratio = p.Pot.Median / p.Real.Median
	return p, l.printPrompts(p, n, from)
}

func (l *Lab) printPrompts(p Prompts, n int, from netip.Addr) error {
	l.printf("\nFrom a connection to a shell's prompt, %d times each in turn, from %s and %s\n", n, UserAddr(), from)
	for _, leg := range []Leg{p.Real, p.Pot} {
		l.printf("  %-18s %9.2f ms %9.2f ms %9.2f ms\n", leg.Name, leg.Median, leg.P99, leg.Max)
	}
	if p.Ratio > boundPrompt {
		l.printf("  NOT within ratio of the medians %.2f ≤ %.1f\n\n", p.Ratio, boundPrompt)
		return ErrOutOfBounds
	}
	l.printf("  within ratio of the medians %.2f ≤ %.1f\n\n", p.Ratio, boundPrompt)
	return nil
}

// prompt logs in, asks for a shell on a terminal, and waits until it asks for a command.
func (m *Machine) prompt(ctx context.Context, g Login) (time.Duration, error) {
	began := time.Now()
	shell, err := m.Login(ctx, g)
	if err != nil {
		return 0, err
	}
	defer shell.Close() //nolint:errcheck // it was seen
	session, err := shell.client.NewSession()
	if err != nil {
		return 0, fmt.Errorf("open a session: %w", err)
	}
	defer session.Close() //nolint:errcheck // it was seen
	out, err := session.StdoutPipe()
	if err == nil {
		err = session.RequestPty("xterm", 24, 80, ssh.TerminalModes{})
	}
	if err == nil {
		err = session.Shell()
	}
	if err != nil {
		return 0, fmt.Errorf("ask for a shell: %w", err)
	}
	var seen []byte
	buf := make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		seen = append(seen, buf[:n]...)
		if bytes.HasSuffix(seen, []byte("$ ")) || bytes.HasSuffix(seen, []byte("# ")) {
			return time.Since(began), nil
		}
		if err != nil {
			return 0, fmt.Errorf("wait for a prompt: %w (after %q)", err, seen)
		}
	}
}
