package furnish

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	sshdConfig  = "/etc/ssh/sshd_config"
	sshdShipped = "/usr/share/openssh/sshd_config" // as Debian's package has it
)

// sshd writes the configuration that an administrator would have who set the server up as the persona's is. What the node
// needs stands in a file of its own in sshd_config.d, which is read first and so goes first. Lists of algorithms and
// the port are left out: the pot's server is not the one that attackers meet, and might be an older one that knows
// fewer and would not start.
func (p *Pot) sshd(s event.PersonaSSH) error {
	shipped, err := p.read(sshdShipped)
	if errors.Is(err, os.ErrNotExist) {
		return nil // an image of somebody's own
	}
	if err != nil {
		return err
	}
	text, banner := SSHDConfig(string(shipped), s)
	if banner {
		if err := p.Write("/etc/issue.net", []byte(s.Banner), 0o644, 0, 0); err != nil {
			return err
		}
	}
	return p.Write(sshdConfig, []byte(text), 0o644, 0, 0)
}

// shown are the settings that show in the file, as OpenSSH writes their names; versions from 7 on know them. MaxStartups is
// not among them: of that the last value holds, and so the node could be kept out.
func shown() []string {
	return []string{
		"SyslogFacility", "LogLevel", "LoginGraceTime", "PermitRootLogin", "StrictModes", "MaxAuthTries", "MaxSessions", "PubkeyAuthentication",
		"HostbasedAuthentication", "PasswordAuthentication", "PermitEmptyPasswords", "GSSAPIAuthentication", "UsePAM", "AllowAgentForwarding",
		"AllowTcpForwarding", "GatewayPorts", "X11Forwarding", "X11DisplayOffset", "X11UseLocalhost", "PermitTTY", "PrintMotd", "PrintLastLog",
		"TCPKeepAlive", "PermitUserEnvironment", "Compression", "ClientAliveInterval", "ClientAliveCountMax", "UseDNS",
		"PermitTunnel", "VersionAddendum", "DisableForwarding", "AllowStreamLocalForwarding", "PermitUserRC",
	}
}

// defaults are those of OpenSSH that Debian's file does not name.
func defaults(key string) string {
	switch key {
	case "disableforwarding":
		return "no"
	case "allowstreamlocalforwarding", "permituserrc":
		return "yes"
	}
	return ""
}

// SSHDConfig edits the file that Debian ships; banner says that it names /etc/issue.net as one.
func SSHDConfig(shipped string, s event.PersonaSSH) (text string, banner bool) {
	lines := strings.Split(strings.TrimSuffix(shipped, "\n"), "\n")
	setting := regexp.MustCompile(`^#?([A-Z][A-Za-z0-9]+) +(\S.*)$`)
	find := func(key string) (int, string) {
		i := slices.IndexFunc(lines, func(line string) bool {
			m := setting.FindStringSubmatch(line)
			return m != nil && strings.EqualFold(m[1], key)
		})
		if i < 0 {
			return i, defaults(strings.ToLower(key))
		}
		value, _, _ := strings.Cut(setting.FindStringSubmatch(lines[i])[2], "#")
		return i, strings.TrimSpace(value)
	}
	set := func(key, value string) {
		i, usual := find(key)
		switch {
		case canonical(usual) == canonical(value):
		case i >= 0:
			lines[i] = key + " " + value
		default:
			lines = append(lines, key+" "+value)
		}
	}
	for _, key := range shown() {
		if value, ok := s.Settings[strings.ToLower(key)]; ok {
			set(key, spelt(value))
		}
	}
	if value, ok := s.Settings["kbdinteractiveauthentication"]; ok {
		key := "KbdInteractiveAuthentication"
		if i, _ := find(key); i < 0 { // before OpenSSH 8.7
			key = "ChallengeResponseAuthentication"
		}
		set(key, value)
	}
	if s.Banner != "" {
		set("Banner", "/etc/issue.net")
		banner = true
	}
	if len(s.AcceptEnv) > 0 {
		set("AcceptEnv", strings.Join(s.AcceptEnv, " "))
	}
	return strings.Join(lines, "\n") + "\n", banner
}

// spelt is a value as administrators write it.
func spelt(value string) string {
	if value == "without-password" {
		return "prohibit-password"
	}
	return value
}

// canonical makes values equal that mean the same.
func canonical(value string) string {
	switch value {
	case "without-password":
		return "prohibit-password"
	case "delayed":
		return "yes"
	case "2m":
		return "120"
	}
	n, unit := 0, ""
	if c, _ := fmt.Sscanf(value, "%d%s", &n, &unit); c == 2 && unit == "m" {
		return strconv.Itoa(n * 60)
	}
	return value
}
