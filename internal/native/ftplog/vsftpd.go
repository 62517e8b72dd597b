package ftplog

import "bytes"

const (
	vsftpdStamp = len("Sun Nov 22 18:00:00 2026")
	client      = `: Client "`
)

// CutVsftpd cuts off what begins a line of vsftpd's own file, "Sun Nov 22 18:00:00 2026 [pid 2] "; the rest is what vsftpd
// writes to syslog.
func CutVsftpd(b []byte) (stamp, pid, rest []byte, ok bool) {
	if len(b) < vsftpdStamp+len(" [pid 1] ") || b[3] != ' ' || b[13] != ':' || b[16] != ':' || b[vsftpdStamp] != ' ' {
		return nil, nil, b, false
	}
	rest, ok = bytes.CutPrefix(b[vsftpdStamp:], []byte(" [pid "))
	if !ok {
		return nil, nil, b, false
	}
	pid, rest, ok = bytes.Cut(rest, []byte("] "))
	if !ok || len(pid) > 10 {
		return nil, nil, b, false
	}
	return b[:vsftpdStamp], pid, rest, true
}

// Vsftpd reads
//
//	[USER] FAIL LOGIN: Client "ADDRESS"
//	[USER] OK LOGIN: Client "ADDRESS"[, anon password "TEXT"]
//	CONNECT: Client "ADDRESS"
//	[USER] OK UPLOAD: Client "ADDRESS", "FILE", 12 bytes, 0.10Kbyte/sec
//
// USER and FILE are a client's, and either may hold what looks like the rest of a line: where it can be read in several
// ways, that name several peers, it names none and is no attempt.
func Vsftpd(b []byte) (Entry, bool) {
	if e, ok := pam(b); ok {
		return e, true
	}
	if len(b) == 0 || b[0] != '[' {
		return vsftpdAction(b, nil)
	}
	var found Entry
	ok := false
	for i := 1; ; i++ {
		n := bytes.Index(b[i:], []byte("] "))
		if n < 0 {
			return found, ok
		}
		i += n
		e, fits := vsftpdAction(b[i+2:], b[1:i])
		switch {
		case !fits:
		case ok && !bytes.Equal(e.Peer, found.Peer):
			return Entry{What: Around}, true
		default:
			found, ok = e, true
		}
	}
}

// vsftpdAction reads what follows the user, to the end.
func vsftpdAction(b, user []byte) (Entry, bool) {
	result, rest, _ := bytes.Cut(b, []byte{' '})
	good := string(result) == "OK"
	if !good && string(result) != "FAIL" {
		rest = b
	}
	// Words of vsftpd's own, none of which is longer.
	const longest = len("FTP response")
	i := bytes.Index(rest[:min(len(rest), longest+len(client))], []byte(client))
	if i <= 0 {
		return Entry{}, false
	}
	action := rest[:i]
	peer, tail, ok := bytes.Cut(rest[i+len(client):], []byte{'"'})
	if !ok || !likeAddress(peer) {
		return Entry{}, false
	}
	e := Entry{Peer: peer, User: user}
	switch string(action) {
	case "LOGIN":
		e.What, ok = vsftpdLogin(tail, good)
		return e, ok && user != nil
	case "CONNECT":
		e.What = Around
		return e, user == nil && (len(tail) == 0 || quotedTail(tail))
	case "DOWNLOAD", "UPLOAD", "MKDIR", "DELETE", "RENAME", "RMDIR", "CHMOD", "FTP command", "FTP response", "DEBUG":
		return e, quotedTail(tail)
	}
	return Entry{}, false
}

func vsftpdLogin(tail []byte, good bool) (What, bool) {
	switch {
	case len(tail) == 0 && good:
		return OK, true
	case len(tail) == 0:
		return Failed, true
	case good && bytes.HasPrefix(tail, []byte(`, anon password "`)) && tail[len(tail)-1] == '"':
		return Anonymous, true
	}
	switch string(tail) {
	case `, "User is in the deny user list."`, `, "User is not in the allow user list."`:
		return Refused, !good
	}
	return Other, false
}

// quotedTail says whether a tail is one of an action with an argument: `, "TEXT"` with sizes and speeds behind it.
func quotedTail(b []byte) bool {
	if len(b) < len(`, ""`) || string(b[:3]) != `, "` {
		return false
	}
	return b[len(b)-1] == '"' || bytes.HasSuffix(b, []byte("Kbyte/sec")) || bytes.HasSuffix(b, []byte(" bytes"))
}
