package parse

import (
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native/ftplog"
	"github.com/kokkuri/kokkuri/internal/native/weblog"
)

// anonymousMethod is that of logins that need no password, and so prove nothing.
const anonymousMethod = "anonymous"

// ftpMessage reads a message of any of the FTP servers that are known; each has a form of its own.
func ftpMessage(m *message) fact {
	for _, read := range [...]func(*message) fact{vsftpdMessage, proftpdMessage, pureftpdMessage} {
		if f := read(m); f.kind != "" {
			return f
		}
	}
	return fact{}
}

// vsftpdMessage reads what vsftpd writes to syslog or to a file. Each FAIL LOGIN is a guess; PAM's lines restate it.
func vsftpdMessage(m *message) fact {
	return ftpEntry(m, func(b []byte) (ftplog.Entry, bool) {
		_, _, b, _ = ftplog.CutVsftpd(b)
		return ftplog.Vsftpd(b)
	})
}

// proftpdMessage reads what ProFTPD writes to syslog or to its SystemLog. One line is a guess: "no such user found" for an
// unknown account, "(Login failed)" for a known one, a security violation for root.
func proftpdMessage(m *message) fact {
	return ftpEntry(m, func(b []byte) (ftplog.Entry, bool) {
		_, _, b, _ = ftplog.CutProftpd(b)
		return ftplog.Proftpd(b)
	})
}

// pureftpdMessage reads what Pure-FTPd writes to syslog, and to its log of transfers, which says who was logged in.
func pureftpdMessage(m *message) fact {
	f := ftpEntry(m, ftplog.Pureftpd)
	if f.kind == "" {
		a, ok := weblog.ReadAccess(m.text)
		if !ok || a.Unsure {
			return f
		}
		f = fact{kind: event.Context, account: a.User}
		f.source, _ = address(a.Peer)
	}
	switch {
	case f.source.IsValid():
		f.peer = peerAddress
	case f.kind != "" && f.kind != event.None && len(m.text) > 0 && m.text[0] == '(':
		f.peer = peerName
	}
	return f
}

func ftpEntry(m *message, read func([]byte) (ftplog.Entry, bool)) fact {
	text, n := trimLeft(m.text), 1
	inner, times, again := repeated(text)
	if again {
		text, n = inner, times
	}
	e, ok := read(text)
	if !ok {
		return fact{}
	}
	f := fact{kind: event.None, account: e.User}
	if e.What != ftplog.Other {
		f.source, _ = address(e.Peer)
	}
	switch e.What {
	case ftplog.Failed:
		f.kind, f.means, f.attempts = event.AuthFailed, "password", n
	case ftplog.OK:
		f.kind, f.means = event.AuthOK, "password"
	case ftplog.Anonymous:
		f.kind, f.means = event.AuthOK, anonymousMethod
	case ftplog.Around:
		f.kind = event.Context
	case ftplog.Refused:
		f.kind = event.Probe
	case ftplog.Probe:
		f.kind, f.means = event.Probe, protocolMethod
	case ftplog.Other:
	}
	if again {
		f.repeated = n
	}
	return f
}
