// Package ftplog is the grammar of what vsftpd, ProFTPD and Pure-FTPd write to their logs: which bytes of a line are the
// server's and which a client's.
package ftplog

import "bytes"

// What says what an entry states.
type What uint8

// Entries of interest; Other is understood, but about no attempt.
const (
	Other     What = iota
	Failed         // a password was wrong
	OK             // a login
	Anonymous      // a login that needed no password
	Around         // what surrounds an attempt: a connection, a limit, PAM's own line
	Refused        // a user's name was refused before a password was asked for
	Probe          // another protocol
)

// Entry is an entry of a log. Its slices share the line's memory.
type Entry struct {
	What What
	Peer []byte // an address; empty where the entry names none, or where text of a client might have written it
	User []byte
}

// likeAddress says whether a word has only what IP addresses are made of.
func likeAddress(b []byte) bool {
	dots, colons := 0, 0
	for _, c := range b {
		switch {
		case c == '.':
			dots++
		case c == ':':
			colons++
		case c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'f':
		default:
			return false
		}
	}
	return dots == 3 || colons >= 2
}

// pam reads the lines that PAM's modules write under the server's name: they restate. They are told by how they begin,
// which no server's own line does.
func pam(b []byte) (Entry, bool) {
	if bytes.HasPrefix(b, []byte("pam_")) || bytes.HasPrefix(b, []byte("PAM ")) || bytes.HasPrefix(b, []byte("PAM(")) {
		return Entry{What: Around}, true
	}
	return Entry{}, false
}
