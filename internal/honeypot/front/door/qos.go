package door

import (
	"strconv"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Types of service that OpenSSH has packets carry by default (sshd_config's IPQoS: af21 cs1).
const (
	af21 = 0x48
	cs1  = 0x20
)

// tosOf returns the type of service of a session's packets.
func tosOf(p event.PersonaSSH, terminal bool) int {
	interactive, bulk := af21, cs1
	if f := strings.Fields(p.Settings["ipqos"]); len(f) > 0 {
		interactive = serviceOf(f[0], interactive)
		bulk = serviceOf(f[len(f)-1], bulk)
	}
	if terminal {
		return interactive
	}
	return bulk
}

// serviceOf reads a type of service as OpenSSH names it (misc.c).
func serviceOf(name string, otherwise int) int {
	switch name {
	case "none":
		return 0
	case "ef":
		return 0xb8
	case "le":
		return 0x04
	case "lowdelay":
		return 0x10
	case "throughput":
		return 0x08
	case "reliability":
		return 0x04
	}
	if n, err := strconv.ParseUint(name, 0, 8); err == nil {
		return int(n)
	}
	if len(name) == 3 && strings.HasPrefix(name, "cs") && name[2] >= '0' && name[2] <= '7' {
		return int(name[2]-'0') << 5
	}
	if len(name) == 4 && strings.HasPrefix(name, "af") {
		class, drop := int(name[2]-'0'), int(name[3]-'0')
		if class >= 1 && class <= 4 && drop >= 1 && drop <= 3 {
			return class<<5 | drop<<3
		}
	}
	return otherwise
}
