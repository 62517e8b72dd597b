package event

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// What values of settings may be. Algorithms and words have no white space, so that no value of a
// hostile host can begin another line or option of a configuration file.
const (
	sshYesNo      = `yes|no`
	sshNumber     = `[0-9]{1,9}`
	sshPositive   = `[1-9][0-9]{0,8}`
	sshAlgorithms = `[A-Za-z0-9@._-]+(,[A-Za-z0-9@._-]+)*`
	sshForwarding = `yes|no|local|remote|all`
)

// sshSettings are the settings of `sshd -T` that a persona may have, each with what its value may be.
func sshSettings() map[string]string {
	out := map[string]string{
		"permitrootlogin":            `yes|no|without-password|prohibit-password|forced-commands-only`,
		"gatewayports":               `yes|no|clientspecified`,
		"compression":                `yes|no|delayed`,
		"allowtcpforwarding":         sshForwarding,
		"allowstreamlocalforwarding": sshForwarding,
		"permittunnel":               `yes|no|point-to-point|ethernet`,
		"permituserenvironment":      sshYesNo,
		"maxstartups":                `[0-9]{1,6}(:[0-9]{1,3}:[0-9]{1,6})?`,
		"persourcemaxstartups":       `none|[0-9]{1,9}`,
		"persourcenetblocksize":      `[0-9]{1,3}(:[0-9]{1,3})?`,
		"rekeylimit":                 `[0-9]{1,20} [0-9]{1,20}`,
		"ipqos":                      `[a-z0-9]{1,16}( [a-z0-9]{1,16})?`,
		"loglevel":                   `QUIET|FATAL|ERROR|INFO|VERBOSE|DEBUG[123]?`,
		"syslogfacility":             `DAEMON|USER|AUTH|AUTHPRIV|LOCAL[0-7]`,
		"authenticationmethods":      `[a-z,:-]{1,100}( [a-z,:-]{1,100}){0,7}`,
		"subsystem":                  `sftp (internal-sftp|/usr/[A-Za-z0-9/_.+-]{1,100})`,
		"versionaddendum":            `[A-Za-z0-9._+~-]([A-Za-z0-9._+~ -]{0,98}[A-Za-z0-9._+~-])?`,
	}
	for _, key := range []string{
		"ciphers", "macs", "kexalgorithms", "hostkeyalgorithms", "pubkeyacceptedalgorithms", "casignaturealgorithms",
	} {
		out[key] = sshAlgorithms
	}
	for _, key := range []string{
		"logingracetime", "clientaliveinterval", "clientalivecountmax", "x11displayoffset",
		"requiredrsasize",
	} {
		out[key] = sshNumber
	}
	out["maxauthtries"], out["maxsessions"] = sshPositive, sshPositive // with none nobody would get in
	for _, key := range []string{
		"passwordauthentication", "kbdinteractiveauthentication", "pubkeyauthentication", "hostbasedauthentication",
		"gssapiauthentication", "permitemptypasswords", "usepam", "usedns", "printmotd", "printlastlog", "x11forwarding",
		"x11uselocalhost", "allowagentforwarding", "disableforwarding", "tcpkeepalive", "permittty", "permituserrc",
		"strictmodes",
	} {
		out[key] = sshYesNo
	}
	return out
}

// SSHSettings lists the settings that PersonaSSH.Settings may have, in order.
func SSHSettings() []string { return slices.Sorted(maps.Keys(sshSettings())) }

// SSHSettingAllowed says what the value of a setting may be, as a regular expression, and whether this
// one is; the expression is empty where a persona never has the setting.
func SSHSettingAllowed(key, value string) (allowed string, ok bool) {
	allowed = sshSettings()[key]
	if allowed == "" || len(value) > maxPersonaText {
		return allowed, false
	}
	ok, err := regexp.MatchString(`^(?:`+allowed+`)$`, value)
	return allowed, ok && err == nil && (key != "maxstartups" || startups(value))
}

// startups tells whether a server takes what has the form of MaxStartups: it does not start with another.
func startups(value string) bool {
	var begin, rate, full int
	switch n, _ := fmt.Sscanf(value, "%d:%d:%d", &begin, &rate, &full); n {
	case 1:
		return begin > 0
	case 3:
		return begin > 0 && begin <= full && rate >= 1 && rate <= 100
	}
	return false
}
