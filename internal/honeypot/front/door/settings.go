package door

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/front/entry"
)

// keysUID is the account _door's, as which sshd asks about public keys.
const keysUID = 999

// lent are the settings that a door's sshd has from its persona, by the names that sshd -T gives them, and the names by
// which OpenSSH 8.4 and later know them. All others are about what happens behind the door.
func lent() map[string][]string {
	out := map[string][]string{
		"kbdinteractiveauthentication": {"KbdInteractiveAuthentication", "ChallengeResponseAuthentication"},
		"pubkeyacceptedalgorithms":     {"PubkeyAcceptedKeyTypes"},
	}
	for _, name := range []string{
		"ciphers", "macs", "kexalgorithms", "hostkeyalgorithms", "casignaturealgorithms", "maxauthtries", "maxsessions", "logingracetime",
		"clientaliveinterval", "clientalivecountmax", "passwordauthentication", "pubkeyauthentication", "gssapiauthentication",
		"permitemptypasswords", "allowtcpforwarding", "allowstreamlocalforwarding", "allowagentforwarding", "disableforwarding", "gatewayports",
		"tcpkeepalive", "permittty", "compression", "rekeylimit", "versionaddendum", "authenticationmethods", "ipqos",
	} {
		out[name] = []string{name}
	}
	return out
}

// configOf writes the configuration of a door's sshd. What its sessions run is always the shell of its accounts, whatever
// is asked for: a ForceCommand would keep a client's signals from it.
func configOf(methods []string, p event.PersonaSSH, socket, subsystem string) string {
	yesNo := func(method string) string {
		if slices.Contains(methods, method) {
			return "yes"
		}
		return "no"
	}
	settings := map[string]string{
		"passwordauthentication": yesNo(entry.Password), "kbdinteractiveauthentication": yesNo(entry.Interactive),
	}
	known := lent()
	for name, value := range p.Settings {
		if _, ok := event.SSHSettingAllowed(name, value); ok && known[name] != nil {
			settings[name] = value
		}
	}
	accept := p.AcceptEnv
	if accept == nil {
		accept = []string{"LANG", "LC_*"}
	}
	lines := []string{
		"UsePAM yes",
		"PermitRootLogin yes", // the node decides: whether a host lets root in, nobody sees from outside
		"AuthorizedKeysFile none",
		fmt.Sprintf("AuthorizedKeysCommand /usr/lib/door/key %s %%U %%t %%k %%u", socket),
		"AuthorizedKeysCommandUser _door",
		"X11Forwarding no",
		"PermitTunnel no",
		"PermitUserRC no",
		"PrintMotd no", // the pot's own server prints it, and the last login
		"PrintLastLog no",
		"UseDNS no",
		"LogLevel DEBUG1", // see said
		"PidFile none",
		"Subsystem sftp " + subsystem + " sftp",
	}
	if len(accept) > 0 {
		lines = append(lines, "AcceptEnv "+strings.Join(accept, " "))
	}
	for name, value := range settings {
		for _, as := range known[name] {
			lines = append(lines, as+" "+value)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// configFor has a persona's configuration lie where the door finds it, and returns its name there.
func (h *house) configFor(p event.PersonaSSH) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := configOf(h.methods, p, h.socket, h.subsystem)
	sum := sha256.Sum256([]byte(text))
	name := "config-" + hex.EncodeToString(sum[:6])
	if h.spoilt[name] {
		text = configOf(h.methods, event.PersonaSSH{}, h.socket, h.subsystem)
		sum = sha256.Sum256([]byte(text))
		name = "config-" + hex.EncodeToString(sum[:6])
	}
	path := filepath.Join(h.dir, name)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := writeWhole(path, []byte(text), int(h.shift)); err != nil {
			return "", fmt.Errorf("configure the door: %w", err)
		}
	}
	return name, nil
}

// spoil has a configuration that the door's sshd does not take not be used again.
func (h *house) spoil(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.spoilt[name] && len(h.spoilt) < maxSpoilt {
		h.spoilt[name] = true
		h.log.Error("the door's sshd does not take a persona's settings; it has its own instead", "config", name)
	}
}

const maxSpoilt = 1000

// startupsOf reads a persona's MaxStartups.
func startupsOf(p event.PersonaSSH, otherwise Startups) Startups {
	f := strings.Split(p.Settings["maxstartups"], ":")
	n := make([]int, 0, 3)
	for _, s := range f {
		v, err := strconv.Atoi(s)
		if err != nil {
			return otherwise
		}
		n = append(n, v)
	}
	switch {
	case len(n) == 1 && n[0] > 0:
		return Startups{Begin: n[0], Rate: 100, Full: n[0]}
	case len(n) == 3 && n[0] > 0 && n[2] >= n[0] && n[1] <= 100:
		return Startups{Begin: n[0], Rate: n[1], Full: n[2]}
	}
	return otherwise
}
