// Package weblog is the grammar of what nginx and Apache write to their access and error logs: which bytes of a line are
// the server's and which a client's.
package weblog

import "bytes"

// Access is a line of an access log in the common or combined format. Its slices share the line's memory; what a client
// sent stands in them as the server escaped it.
type Access struct {
	Peer    []byte // who connected: an address, or a name where the server looks names up
	User    []byte // of the Authorization header; empty where there was none
	Stamp   []byte // 22/Nov/2026:18:00:00 +0000; see AccessTime
	Request []byte // the request line
	Status  int
	// Unsure says that Peer may be text of a client: the line reads differently with a host name in front.
	Unsure bool
	rest   []byte // after the status
}

// ReadAccess reads a line of the forms
//
//	PEER - USER [22/Nov/2026:18:00:00 +0000] "REQUEST" 401 179
//	PEER - USER [22/Nov/2026:18:00:00 +0000] "REQUEST" 401 179 "REFERER" "AGENT"
//
// each with a virtual host's name and a space before it and, at its end, further fields (Apache's formats common,
// combined and vhost_combined, nginx's combined and main). Servers escape quotes in what clients send (nginx as \x22,
// Apache as \"), so the first unescaped one begins the request and the next ends it; a user's name may hold anything else.
func ReadAccess(b []byte) (a Access, ok bool) {
	open := requestAt(b)
	if open < 0 {
		return a, false
	}
	head := b[:open-len(`] `)]
	const stamp = len("22/Nov/2026:18:00:00 +0000")
	i := len(head) - stamp
	if i < 2 || head[i-1] != '[' || head[i-2] != ' ' || head[i+2] != '/' || head[i+6] != '/' || head[i+20] != ' ' {
		return a, false
	}
	a.Stamp = head[i:]
	if !a.who(head[:i-2]) {
		return a, false
	}
	end := quoteEnd(b[open+1:])
	if end < 0 {
		return a, false
	}
	a.Request = b[open+1 : open+1+end]
	rest := b[open+end+2:]
	if len(rest) < len(" 401") || rest[0] != ' ' || len(rest) > len(" 401") && rest[4] != ' ' {
		return a, false
	}
	for _, c := range rest[1:4] {
		if c < '0' || c > '9' {
			return a, false
		}
		a.Status = a.Status*10 + int(c-'0')
	}
	a.rest = rest[4:]
	return a, true
}

// requestAt finds the quote that begins the request: the first that is not escaped and follows "] ". Apache writes an empty
// user as two quotes.
func requestAt(b []byte) int {
	for i := 0; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		switch {
		case escaped(b[:i]):
		case i >= 2 && b[i-2] == ']' && b[i-1] == ' ':
			return i
		case bytes.HasPrefix(b[i:], []byte(`"" [`)):
			i++
		default:
			return -1
		}
	}
	return -1
}

// escaped says whether what follows b is escaped: whether b ends with an odd number of backslashes.
func escaped(b []byte) bool {
	n := len(b)
	for n > 0 && b[n-1] == '\\' {
		n--
	}
	return (len(b)-n)%2 == 1
}

// quoteEnd finds the quote that ends a field.
func quoteEnd(b []byte) int {
	for i := 0; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		if !escaped(b[:i]) {
			return i
		}
	}
}

// who reads "[VHOST ]PEER - USER". Where two readings are possible the peer is not sure: a virtual host's name may come
// from a client too.
func (a *Access) who(b []byte) bool {
	first, rest, ok := bytes.Cut(b, []byte{' '})
	if !ok || len(first) == 0 {
		return false
	}
	a.Peer = first
	user, ok := bytes.CutPrefix(rest, []byte("- "))
	if !ok {
		a.Peer, rest, ok = bytes.Cut(rest, []byte{' '})
		if !ok || len(a.Peer) == 0 {
			return false
		}
		if user, ok = bytes.CutPrefix(rest, []byte("- ")); !ok {
			return false
		}
		a.Unsure = likeAddress(first)
	}
	a.User = user
	if len(user) == 0 || string(user) == "-" || string(user) == `""` {
		a.User = nil
		return true
	}
	for i := bytes.Index(user, []byte(" -")); i >= 0 && !a.Unsure; {
		word := user[bytes.LastIndexByte(user[:i], ' ')+1 : i]
		a.Unsure = likeAddress(word)
		next := bytes.Index(user[i+1:], []byte(" -"))
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return true
}

// likeAddress says whether a word might be taken for an IP address.
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

// Field returns the nth quoted field after the request, from 1 on: the referer, the user agent, and what a format adds.
func (a *Access) Field(n int) ([]byte, bool) {
	rest := a.rest
	for {
		open := bytes.IndexByte(rest, '"')
		if open < 0 {
			return nil, false
		}
		end := quoteEnd(rest[open+1:])
		if end < 0 {
			return nil, false
		}
		if n--; n == 0 {
			return rest[open+1 : open+1+end], true
		}
		rest = rest[open+end+2:]
	}
}

// Tail is what follows the status: the size, and the fields.
func (a *Access) Tail() []byte { return a.rest }

// RequestLine splits the request into its method and its target; ok is false where it is no request of HTTP.
func (a *Access) RequestLine() (method, target []byte, ok bool) {
	method, target, ok = bytes.Cut(a.Request, []byte{' '})
	if !ok || len(method) == 0 || len(method) > 32 {
		return nil, nil, false
	}
	for _, c := range method {
		if (c < 'A' || c > 'Z') && c != '-' && c != '_' && (c < 'a' || c > 'z') {
			return nil, nil, false
		}
	}
	if i := bytes.LastIndexByte(target, ' '); i >= 0 && bytes.HasPrefix(target[i+1:], []byte("HTTP/")) {
		target = target[:i]
	}
	return method, origin(target), len(target) > 0
}

// origin cuts scheme and authority off a target in absolute form (RFC 9112, section 3.2.2).
func origin(target []byte) []byte {
	if len(target) == 0 || target[0] == '/' {
		return target
	}
	for _, scheme := range [...]string{"http://", "https://"} {
		if len(target) < len(scheme) || !bytes.EqualFold(target[:len(scheme)], []byte(scheme)) {
			continue
		}
		if i := bytes.IndexByte(target[len(scheme):], '/'); i >= 0 {
			return target[len(scheme)+i:]
		}
		return target[:0]
	}
	return target
}

// Path is a target's path, without the query.
func Path(target []byte) []byte {
	path, _, _ := bytes.Cut(target, []byte{'?'})
	return path
}
