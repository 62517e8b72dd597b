package parse

import "bytes"

// writer is who wrote a message, as the host's journal or rsyslog saw it: what the writer can't choose.
type writer struct {
	known    bool
	exe, uid []byte // empty where the road doesn't tell
}

// writerOf reads the properties that Kokkuri's agent, or a template of ours for rsyslog, wrote.
func writerOf(said *fields) writer {
	if said == nil {
		return writer{}
	}
	exe, _ := cutEnd(said.exe, " (deleted)") // it was upgraded while it ran
	return writer{known: len(exe) > 0 || len(said.uid) > 0, exe: exe, uid: said.uid}
}

// fits says whether the writer can be the program that the message's tag names: anybody may call himself sshd.
// Where the road tells nothing of the writer, nobody asks. Of another user's process of the program itself (sshd runs
// as the user once he is in) what only surrounds an attempt is believed.
func (w *writer) fits(p *program, f *fact) bool {
	if len(w.exe) > 0 && p.exe != "" && (!installed(w.exe) || !runs(p.exe, w.exe[bytes.LastIndexByte(w.exe, '/')+1:])) {
		return false
	}
	if p.uid == "" || len(w.uid) == 0 || string(w.uid) == p.uid {
		return true
	}
	return len(w.exe) > 0 && p.exe != "" && !f.states()
}

// installed says whether a path is where only root puts programs: anyone can name a program of his own sshd.
func installed(exe []byte) bool {
	for _, folder := range [...]string{"/usr/", "/sbin/", "/bin/", "/opt/", "/lib/", "/snap/", "/nix/store/", "/gnu/store/"} {
		if _, ok := cut(exe, folder); ok {
			return true
		}
	}
	return false
}

// runs says whether name is one of the names, which have spaces between them.
func runs(names string, name []byte) bool {
	for len(names) > 0 {
		n := 0
		for n < len(names) && names[n] != ' ' {
			n++
		}
		if names[:n] == string(name) {
			return true
		}
		if n == len(names) {
			return false
		}
		names = names[n+1:]
	}
	return false
}
