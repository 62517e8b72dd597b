package parse

import (
	"bytes"

	"github.com/kokkuri/kokkuri/internal/native"
)

// originFits says whether who wrote a message, as the host's journal or rsyslog saw it, can be the program that the
// message's tag names: anybody may call itself sshd. Where the road tells nothing of the writer, it fits.
func originFits(sd []byte, p program) bool {
	if len(sd) == 0 || sd[0] != '[' || p.exe == "" && p.uid == "" {
		return true
	}
	list := params(sd, native.ElementID)
	if len(list) == 0 {
		return true
	}
	if exe, ok := paramOf(list, native.ParamExe); ok && p.exe != "" {
		base := exe[bytes.LastIndexByte(exe, '/')+1:]
		if string(base) != p.exe {
			return false
		}
	}
	if uid, ok := paramOf(list, native.ParamUID); ok && p.uid != "" && string(uid) != p.uid {
		return false
	}
	return true
}
