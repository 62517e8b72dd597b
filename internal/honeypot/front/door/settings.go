package door

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/entry"
)

// keysUID is the account _door's, as which sshd asks about public keys.
const keysUID = 999

// configOf writes the configuration of a door's sshd. What its sessions run is always the shell of its accounts, whatever
// is asked for, so that a client's signals reach it as they reach a program of a real host.
func configOf(methods []string, socket, subsystem string) string {
	yesNo := func(method string) string {
		if slices.Contains(methods, method) {
			return "yes"
		}
		return "no"
	}
	settings := [][2]string{
		{"UsePAM", "yes"},
		{"PasswordAuthentication", yesNo(entry.Password)},
		{"ChallengeResponseAuthentication", yesNo(entry.Interactive)}, // in all versions' words
		{"PermitRootLogin", "yes"},                                    // the node decides
		{"AuthorizedKeysFile", "none"},
		{"AuthorizedKeysCommand", fmt.Sprintf("/usr/lib/door/key %s %%U %%t %%k %%u", socket)},
		{"AuthorizedKeysCommandUser", "_door"},
		{"AcceptEnv", "LANG LC_*"},
		{"X11Forwarding", "no"},
		{"PermitUserRC", "no"},
		{"PrintMotd", "no"}, // the pot's own server prints it, and the last login
		{"PrintLastLog", "no"},
		{"UseDNS", "no"},
		{"LogLevel", "DEBUG1"}, // see said
		{"PidFile", "none"},
		{"Subsystem", "sftp " + subsystem + " sftp"},
	}
	var b strings.Builder
	for _, s := range settings {
		b.WriteString(s[0] + " " + s[1] + "\n")
	}
	return b.String()
}
