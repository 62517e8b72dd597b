package persona

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	sshd = "/usr/sbin/sshd"
	// stranger is for whom the settings are asked: Match blocks for networks of the house don't fit it.
	stranger = "user=root,host=192.0.2.1,addr=192.0.2.1,laddr=192.0.2.2,lport=22"
)

func (l *Learner) ssh(ctx context.Context, p *event.Persona) {
	said, err := l.run(ctx, sshd, "-T", "-C", stranger)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		l.warn("the SSH server's settings are not known: %v", err)
	}
	t := parseSSHD(string(said))
	p.SSH = t.ssh
	if t.banner != "" {
		p.SSH.Banner = string(l.read(t.banner, 4096))
	}
	for _, file := range t.hostKeys {
		if kind, ok := parsePublicKey(string(l.read(file+".pub", 16<<10))); ok {
			p.SSH.HostKeys = append(p.SSH.HostKeys, kind)
		}
	}
	if p.SSH.Identification, err = l.identification(ctx); err != nil {
		l.warn("what the SSH server calls itself is not known: %v", err)
	}
}

// tested is what `sshd -T` says.
type tested struct {
	ssh      event.PersonaSSH
	banner   string   // file
	hostKeys []string // files
}

// parseSSHD reads the output of `sshd -T`, of which it takes what a persona may have. Names of older
// servers become those of OpenSSH 9.
func parseSSHD(text string) tested {
	t := tested{ssh: event.PersonaSSH{Settings: map[string]string{}}}
	challenge := false
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		switch key {
		case "challengeresponseauthentication": // before 8.7 the same setting by another name
			challenge = value == "yes"
		case "pubkeyacceptedkeytypes": // before 8.5
			t.set("pubkeyacceptedalgorithms", value)
		case "versionaddendum", "rekeylimit", "authenticationmethods":
			if value != "none" {
				t.set(key, value)
			}
		case "port", "acceptenv", "banner", "hostkey":
			t.add(key, value)
		default:
			t.set(key, value)
		}
	}
	if challenge {
		t.ssh.Settings["kbdinteractiveauthentication"] = "yes"
	}
	return t
}

// set takes a setting, the first time, where a persona may have it.
func (t *tested) set(key, value string) {
	if _, ok := event.SSHSettingAllowed(key, value); !ok {
		return
	}
	if _, twice := t.ssh.Settings[key]; !twice {
		t.ssh.Settings[key] = value
	}
}

// add takes what there may be several of, and what is no setting of a persona.
func (t *tested) add(key, value string) {
	file := strings.HasPrefix(value, "/")
	switch key {
	case "port":
		if n, err := strconv.ParseUint(value, 10, 16); err == nil && n > 0 && len(t.ssh.Ports) < 16 {
			t.ssh.Ports = append(t.ssh.Ports, uint16(n))
		}
	case "acceptenv":
		for name := range strings.FieldsSeq(value) {
			if len(t.ssh.AcceptEnv) < 32 {
				t.ssh.AcceptEnv = append(t.ssh.AcceptEnv, name)
			}
		}
	case "banner":
		if file {
			t.banner = value
		}
	case "hostkey":
		if file && len(t.hostKeys) < 8 {
			t.hostKeys = append(t.hostKeys, value)
		}
	}
}

// parsePublicKey says which kind of key an OpenSSH public key is (RFC 4253, section 6.6; RFC 5656, section 3.1).
func parsePublicKey(line string) (event.HostKeyKind, bool) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return event.HostKeyKind{}, false
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		return event.HostKeyKind{}, false
	}
	next := func() []byte {
		if len(blob) < 4 {
			return nil
		}
		n := binary.BigEndian.Uint32(blob)
		if uint64(n) > uint64(len(blob)-4) {
			return nil
		}
		out := blob[4 : 4+n]
		blob = blob[4+n:]
		return out
	}
	switch string(next()) {
	case "ssh-ed25519":
		return event.HostKeyKind{Type: "ed25519", Bits: 256}, true
	case "ecdsa-sha2-nistp256":
		return event.HostKeyKind{Type: "ecdsa", Bits: 256}, true
	case "ecdsa-sha2-nistp384":
		return event.HostKeyKind{Type: "ecdsa", Bits: 384}, true
	case "ecdsa-sha2-nistp521":
		return event.HostKeyKind{Type: "ecdsa", Bits: 521}, true
	case "ssh-rsa":
		next() // the exponent
		modulus := next()
		for len(modulus) > 0 && modulus[0] == 0 {
			modulus = modulus[1:]
		}
		if len(modulus) == 0 {
			return event.HostKeyKind{}, false
		}
		return event.HostKeyKind{Type: "rsa", Bits: 8*(len(modulus)-1) + bits.Len8(modulus[0])}, true
	}
	return event.HostKeyKind{}, false
}

// identification is what the server says first on the wire. It is asked in inetd mode, over a pair of sockets and
// with its log on a pipe: on the host's own port it would leave a line in the host's log, which is evaluated.
func (l *Learner) identification(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, l.o.Within)
	defer cancel()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("ask it: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close()   //nolint:errcheck // its end
	defer theirs.Close() //nolint:errcheck // may be closed already
	if err := unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(l.o.Within / time.Second), Usec: int64(l.o.Within%time.Second) / 1000}); err != nil {
		return "", fmt.Errorf("ask it: %w", err)
	}
	cmd := l.command(ctx, sshd, "-i", "-e")
	var complaint bounded
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, &complaint
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("ask it: %w", err)
	}
	_ = theirs.Close()
	line, readErr := bufio.NewReaderSize(ours, 512).ReadString('\n')
	_ = ours.Close()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if readErr != nil {
		return "", fmt.Errorf("ask it: %w: %s", readErr, event.Bytes(firstLine(complaint.Bytes())).Escaped())
	}
	return strings.TrimRight(line, "\r\n"), nil
}
