package furnish

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	// askedFile is where a pot's first process looks for what it is asked to run (images/ssh/init.c), and where the
	// command's end is said.
	askedFile = "/run/systemd/asked"
	askedPoll = 10 * time.Millisecond
)

// Ask has the pot's first process run a command, after call has called it, and waits for the command's end. The
// pot's attacker can change what is run there and what is said of it: the pot is its own.
func (p *Pot) Ask(ctx context.Context, command string, call func() error) error {
	line := command + "; echo $? >" + askedFile + "\n"
	if err := p.Write(askedFile, []byte(line), 0o600, 0, 0); err != nil {
		return err
	}
	defer p.remove(askedFile) //nolint:errcheck // nobody reads it any more
	if err := call(); err != nil {
		return fmt.Errorf("ask the pot to run %q: %w", command, err)
	}
	poll := time.NewTicker(askedPoll)
	defer poll.Stop()
	for {
		said, err := p.read(askedFile)
		if err != nil {
			return err
		}
		switch text := strings.TrimSpace(string(said)); {
		case text == "0":
			return nil
		case text != "" && text != strings.TrimSpace(line):
			return fmt.Errorf("ask the pot to run %q: it ended with %.20q", command, text)
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("ask the pot to run %q: %w", command, ctx.Err())
		}
	}
}
