package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What a value may be; the texts complete "allowed: …".
var (
	errNotDuration     = errors.New("a time span with a unit, such as 90s, 10m, 24h or 30d")
	errNotSize         = errors.New("a size, such as 512MiB, 1GiB or 4096")
	errNotPortRange    = errors.New("a range of ports from 1024 to 65535, such as 20000-29999")
	errNotRange        = errors.New("a number from 1 to 100 or a range of them, such as 3 or 2-6")
	errNotAddress      = errors.New("a host name or address with a port, such as server.example.net:12666")
	errNotFileSource   = errors.New("an absolute path or pattern, with =HOST after it where all lines are of one host, such as /var/log/hosts/%HOST%/auth-%Y-%m-%d.log")
	errNotLogSource    = errors.New("an absolute path with =FORMAT after it, such as /var/log/mysql/error.log=mysql-error")
	errNotLogContainer = errors.New("a container's name with =FORMAT after it, such as db=mysql-error")
	errNotRedis        = errors.New("a host with a port, or the path of a socket, such as 127.0.0.1:6379 or /run/redis/redis.sock")
	errNotServicePort  = errors.New("a service, with its port after a colon where that is not the usual one, such as ssh or ssh:2222")
	errNotAddrPort     = errors.New("an address with a port, such as 127.0.0.1:12666, [::1]:12666 or :12666 for all addresses")
	errNotAddr         = errors.New("an IP address, such as 192.0.2.1 or 2001:db8::1")
	errNotPrefix       = errors.New("a network in CIDR notation or an address, such as 192.0.2.0/24 or 2001:db8::1")
	errNotBool         = errors.New("true or false")
	errNotTime         = errors.New("a time, such as 2026-03-01T04:05:06Z")
	errNotInt          = errors.New("a whole number")
)

// Origin says where a value came from.
type Origin struct {
	File string // with Line, where it is from a file
	Line int
	Env  string // name of the variable
	Flag string // with its dashes
}

// IsDefault reports whether nobody set the value.
func (o Origin) IsDefault() bool { return o == Origin{} }

func (o Origin) String() string {
	switch {
	case o.Flag != "":
		return "flag " + o.Flag
	case o.Env != "":
		return "environment " + o.Env
	case o.File != "" && o.Line > 0:
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	case o.File != "":
		return o.File
	}
	return "default"
}

// Error is one thing that is wrong in a configuration: where, at which key, what was found, what is allowed.
type Error struct {
	Origin  Origin
	Key     string
	Problem string // what was found
	Allowed string // what is allowed
	Hint    string // "did you mean …?", where there is one
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Origin.String())
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key)
		b.WriteString(": ")
	}
	b.WriteString(e.Problem)
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	if e.Allowed != "" {
		b.WriteString("; allowed: ")
		b.WriteString(e.Allowed)
	}
	return b.String()
}

// Errors are all that is wrong in a configuration, in the order of the file.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single errors to errors.As and errors.Is.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, one := range e {
		out[i] = one
	}
	return out
}

// asError returns nil for no errors.
func (e Errors) asError() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b *Error) int { return a.Origin.Line - b.Origin.Line })
	return e
}

// closest is the word of known that was probably meant, or "".
func closest(word string, known []string) string {
	best, bestDistance := "", 1+max(1, len(word)/3)
	for _, k := range known {
		if d := distance(strings.ToLower(word), k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is the number of edits (insert, delete, replace, swap of neighbours) that make b out of a:
// optimal string alignment.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
