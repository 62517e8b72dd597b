package ftplog

import "bytes"

// CutProftpd cuts off what begins a line of ProFTPD's SystemLog, "2026-11-22 18:00:00,123 web proftpd[7] "; the rest is
// what it writes to syslog.
func CutProftpd(b []byte) (stamp, pid, rest []byte, ok bool) {
	const stampLen = len("2026-11-22 18:00:00,123")
	if len(b) < stampLen || b[4] != '-' || b[10] != ' ' || b[13] != ':' || b[19] != ',' || b[stampLen-1] == ' ' {
		return nil, nil, b, false
	}
	rest, ok = bytes.CutPrefix(b[stampLen:], []byte{' '})
	if !ok {
		return nil, nil, b, false
	}
	host, rest, ok := bytes.Cut(rest, []byte(" proftpd["))
	if !ok || bytes.IndexByte(host, ' ') >= 0 {
		return nil, nil, b, false
	}
	pid, rest, ok = bytes.Cut(rest, []byte("] "))
	if !ok || len(pid) > 10 {
		return nil, nil, b, false
	}
	return b[:stampLen], pid, rest, true
}

// Proftpd reads
//
//	SERVER (NAME[ADDRESS]) - TEXT     to syslog
//	SERVER (NAME[ADDRESS]): TEXT      to a file
//
// where NAME may be what the address's owner chose, but has no bracket in it.
func Proftpd(b []byte) (Entry, bool) {
	if e, ok := pam(b); ok {
		return e, true
	}
	server, rest, ok := bytes.Cut(b, []byte(" ("))
	if !ok || len(server) == 0 || bytes.IndexByte(server, ' ') >= 0 {
		return Entry{}, false
	}
	name, rest, ok := bytes.Cut(rest, []byte{'['})
	if !ok || bytes.IndexByte(name, ' ') >= 0 {
		return Entry{}, false
	}
	peer, text, ok := bytes.Cut(rest, []byte("])"))
	if !ok || !likeAddress(peer) {
		return Entry{}, false
	}
	switch {
	case bytes.HasPrefix(text, []byte(" - ")):
		text = text[3:]
	case bytes.HasPrefix(text, []byte(": ")):
		text = text[2:]
	default:
		return Entry{}, false
	}
	e := proftpdText(text)
	e.Peer = peer
	return e, true
}

// proftpdText reads what happened. A name that a client gave is followed by ProFTPD's words to the end of the line.
func proftpdText(b []byte) Entry {
	if e, ok := pam(b); ok {
		return e
	}
	rest, user := bytes.CutPrefix(b, []byte("USER "))
	if !user {
		var anonymous bool
		if rest, anonymous = bytes.CutPrefix(b, []byte("ANON ")); !anonymous {
			return proftpdOther(b)
		}
	}
	const (
		successful = ": Login successful"
		nobody     = ": no such user found from "
		failed     = " (Login failed): "
	)
	end := bytes.TrimSuffix(rest, []byte{'.'})
	if name, ok := bytes.CutSuffix(end, []byte(successful)); ok {
		if user {
			return Entry{What: OK, User: name}
		}
		return Entry{What: Anonymous, User: name}
	}
	// The later of the two is ProFTPD's: each is followed by none of a client's bytes.
	i, j := lastIndex(rest, nobody), lastIndex(rest, failed)
	if i = max(i, j); i >= 0 {
		return Entry{What: Failed, User: rest[:i]}
	}
	return Entry{What: Other}
}

func proftpdOther(b []byte) Entry {
	switch {
	case bytes.EqualFold(bytes.TrimSuffix(b, []byte{'.'}), []byte("SECURITY VIOLATION: Root login attempted")):
		return Entry{What: Failed, User: []byte("root")}
	case bytes.HasPrefix(b, []byte("Maximum login attempts (")), bytes.HasPrefix(b, []byte("FTP session ")), bytes.HasPrefix(b, []byte("Login timeout exceeded")),
		bytes.HasPrefix(b, []byte("Connection refused")):
		return Entry{What: Around}
	case bytes.HasPrefix(b, []byte("client sent HTTP command")), bytes.HasPrefix(b, []byte("client sent SMTP command")), bytes.HasPrefix(b, []byte("client sent SSH2")):
		return Entry{What: Probe}
	}
	return Entry{What: Other}
}

// lastIndex is bytes.LastIndex, which is slow where sep stands once or not at all.
func lastIndex(b []byte, sep string) int {
	last := -1
	for {
		n := bytes.Index(b[last+1:], []byte(sep))
		if n < 0 {
			return last
		}
		last += 1 + n
	}
}
