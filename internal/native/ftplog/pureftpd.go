package ftplog

import "bytes"

// Pureftpd reads
//
//	(USER@PEER) [LEVEL] TEXT
//
// where USER is ? until somebody is logged in, who then exists, and PEER is an address or, where Pure-FTPd looks names
// up, as it does unless it is told -H, mostly a name, which names nobody.
func Pureftpd(b []byte) (Entry, bool) {
	if e, ok := pam(b); ok {
		return e, true
	}
	if len(b) == 0 || b[0] != '(' {
		return Entry{}, false
	}
	who, rest, ok := bytes.Cut(b[1:], []byte(") ["))
	if !ok {
		return Entry{}, false
	}
	at := bytes.LastIndexByte(who, '@')
	if at < 0 || bytes.IndexByte(who[at:], ' ') >= 0 {
		return Entry{}, false
	}
	level, text, ok := bytes.Cut(rest, []byte("] "))
	if !ok || bytes.IndexByte(level, ' ') >= 0 {
		return Entry{}, false
	}
	e := pureftpdText(text)
	if peer := who[at+1:]; likeAddress(peer) {
		e.Peer = peer
	}
	return e, true
}

func pureftpdText(b []byte) Entry {
	if rest, ok := bytes.CutPrefix(b, []byte("Authentication failed for user [")); ok {
		user, ok := bytes.CutSuffix(rest, []byte{']'})
		if !ok {
			return Entry{What: Around}
		}
		return Entry{What: Failed, User: user}
	}
	if user, ok := bytes.CutSuffix(b, []byte(" is now logged in")); ok {
		return Entry{What: OK, User: user}
	}
	switch string(b) {
	case "Anonymous user logged in", "Anonymous user logged in the virtual FTP: ":
		return Entry{What: Anonymous}
	case "Logout.", "Timeout":
		return Entry{What: Around}
	}
	for _, begin := range [...]string{"New connection from ", "Too many authentication failures", "Logout", "PAM_RHOST enabled"} {
		if bytes.HasPrefix(b, []byte(begin)) {
			return Entry{What: Around}
		}
	}
	if bytes.HasPrefix(b, []byte("HTTP command: [")) {
		return Entry{What: Probe}
	}
	return Entry{What: Other}
}
