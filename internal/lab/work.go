package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/cli/replay"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/recording"
)

// loot is what the attacker brings into its pot, and where it puts it.
const (
	loot       = "/usr/share/words"
	lootTarget = "/tmp/.update.sh"
)

// typing is what the attacker types into its shell, with the breaks of somebody who reads the answers.
func typing() []string {
	return []string{"id", "uname -a", "cat /etc/passwd | head -n 3", "ls -la /root", "echo '* * * * * root /tmp/.update.sh' > /etc/cron.d/update", "exit"}
}

// work has the attacker do in its pot what attackers do: look around in a shell, and bring a file.
func (a *attack) work(ctx context.Context) error {
	if !a.report.Deflected {
		return nil // never on the real host
	}
	began := time.Now()
	var script strings.Builder
	for _, line := range typing() {
		fmt.Fprintf(&script, "sleep 0.4; echo %s; ", quoted(line))
	}
	script.WriteString("sleep 0.4")
	client := strings.Join(a.client("ssh", "-tt", "-l", PotAccount, WebSSH().Addr().String()), " ")
	if out, err := a.l.Attacker.Shell(ctx, "("+script.String()+") | "+client); err != nil {
		a.problem("the attacker's shell: %v: %s", err, strings.TrimSpace(out))
		return nil
	}
	a.say("typed %d commands into its shell", len(typing()))
	args := a.client("scp", loot, PotAccount+"@"+WebSSH().Addr().String()+":"+lootTarget)
	if _, err := a.l.Attacker.Exec(ctx, args...); err != nil {
		a.problem("the attacker's upload: %v", err)
		return nil
	}
	a.say("copied a file to %s", lootTarget)
	return a.findWork(ctx, began)
}

// client is the command line of an OpenSSH client as the attacker.
func (a *attack) client(program string, args ...string) []string {
	return append([]string{
		"sshpass", "-p", a.password, program, "-o", "BindAddress=" + AttackerAddr().String(), "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20",
	}, args...)
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// findWork finds what was recorded of the work: when the attacker was let in, what it typed, what it brought.
func (a *attack) findWork(ctx context.Context, since time.Time) error {
	var typed, upload event.Evidence
	err := wait(ctx, 10*time.Second, func() (bool, error) {
		all, err := a.l.SessionsOf(ctx, AttackerAddr())
		if err != nil {
			return false, err
		}
		typed, upload = event.Evidence{}, event.Evidence{}
		for _, s := range all {
			if s.StartedAt.Before(since) || s.EndedAt.IsZero() {
				continue
			}
			left, err := a.l.API().Evidence(ctx, s.ID)
			if err != nil {
				return false, err
			}
			a.note(s, left, &typed, &upload)
		}
		return !typed.At.IsZero() && !upload.At.IsZero(), nil
	})
	if errors.Is(err, errDeadline) {
		a.problem("what the attacker typed and brought is not recorded")
		return nil
	}
	if err != nil {
		return err
	}
	a.commandsAt, a.uploadAt = typed.At, upload.At
	a.say("recorded: the commands in session %s, the file with SHA-256 %.12s… in session %s", a.report.Session, upload.File.SHA256, upload.Session)
	return nil
}

// note picks from a session's evidence the last command that was typed, and the file that came.
func (a *attack) note(s event.Session, left []event.Evidence, typed, upload *event.Evidence) {
	var lines []string
	for _, e := range left {
		switch {
		case e.Kind == event.EvidenceInput:
			lines = append(lines, string(e.Input))
			*typed = e
		case e.File != nil && string(e.File.Path) == lootTarget:
			*upload = e
		}
	}
	if len(lines) > 0 {
		a.report.Session, a.report.Pot = s.ID, s.PotID
		if !slices.Equal(lines, typing()) {
			a.problem("typed was %q, recorded is %q", typing(), lines)
		}
	}
}

// show plays the recording of the attacker's shell, without its pauses.
func (a *attack) show(ctx context.Context) error {
	if a.report.Session == "" || a.commandsAt.IsZero() {
		return nil
	}
	var recorded bytes.Buffer
	if err := a.l.API().Recording(ctx, a.report.Session, &recorded); err != nil {
		a.problem("the recording: %v", err)
		return nil
	}
	text, err := replayed(&recorded)
	if err != nil {
		a.problem("the recording: %v", err)
		return nil
	}
	for line := range strings.Lines(text) {
		a.l.printf("      | %s\n", strings.TrimRight(line, "\r\n"))
	}
	a.say("again, at its own pace: kokkuri sessions replay %s", a.report.Session)
	return nil
}

// replayed is what a recording shows, as text.
func replayed(r io.Reader) (string, error) {
	rd, err := recording.NewReader(r)
	if err != nil {
		return "", fmt.Errorf("read it: %w", err)
	}
	tape, err := replay.Load(rd, 0, 0)
	if err != nil {
		return "", fmt.Errorf("replay it: %w", err)
	}
	var text strings.Builder
	if err := tape.WriteText(&text); err != nil {
		return "", fmt.Errorf("replay it: %w", err)
	}
	return text.String(), nil
}
