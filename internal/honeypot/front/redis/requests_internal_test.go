package redis

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reading feeds pieces of a size and returns what passed, and the requests.
func reading(sent string, piece int) (passed string, got []string, r *requests) {
	r = &requests{
		login: func(args [][]byte) [][]byte { return append(args[:len(args)-1:len(args)-1], []byte("wrong")) },
		done: func(q request) {
			got = append(got, string(bytes.Join(q.args, []byte("|"))))
		},
	}
	var out bytes.Buffer
	for data := []byte(sent); len(data) > 0; {
		n := min(piece, len(data))
		out.Write(r.feed(data[:n]))
		data = data[n:]
	}
	return out.String(), got, r
}

func array(args ...string) string {
	all := make([][]byte, len(args))
	for i, a := range args {
		all[i] = []byte(a)
	}
	return string(appendRequest(nil, all))
}

func TestRequests(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for name, c := range map[string]struct {
		sent, passes string // as it was sent where empty
		got          []string
		broken       bool
	}{
		"an array":              {sent: array("SET", "a", "1"), got: []string{"SET|a|1"}},
		"several":               {sent: array("GET", "a") + array("GET", "") + array("PING"), got: []string{"GET|a", "GET|", "PING"}},
		"none":                  {sent: "*0\r\n*-1\r\n" + array("PING"), got: []string{"PING"}},
		"a line":                {sent: "PING\r\n\r\n  \nset a \"b c\\x41\" 'd\\'e'\n", got: []string{"PING", "set|a|b cA|d'e"}},
		"a login":               {sent: array("AUTH", "secret") + array("PING"), passes: array("AUTH", "wrong") + array("PING"), got: []string{"AUTH|secret", "PING"}},
		"a login by a line":     {sent: "auth  'se cret'\r\nPING\r\n", passes: array("auth", "wrong") + "PING\r\n", got: []string{"auth|se cret", "PING"}},
		"a login of a kind":     {sent: array("hello", "3", "AUTH", "u", "p"), passes: array("hello", "3", "AUTH", "u", "wrong"), got: []string{"hello|3|AUTH|u|p"}},
		"what only begins so":   {sent: array("AUTHOR", "secret"), got: []string{"AUTHOR|secret"}},
		"any byte after a CR":   {sent: "*2\rX$4\rYAUTH\r\n$6\rZsecret\r\n", passes: array("AUTH", "wrong"), got: []string{"AUTH|secret"}},
		"line ends in an array": {sent: array("SET", "a\r\nAUTH x\r\n", "\n"), got: []string{"SET|a\r\nAUTH x\r\n|\n"}},
		"a long one":            {sent: array("SET", "a", long) + array("PING"), got: []string{"SET|a|" + long[:keptArg], "PING"}},
		"no number":             {sent: "*x\r\nAUTH a\r\n", passes: "*x\r\n", broken: true},
		"a number with a zero":  {sent: "*02\r\n$4\r\nAUTH\r\n$1\r\na\r\n", passes: "*02\r\n", broken: true},
		"no length":             {sent: "*2\r\nAUTH\r\nAUTH a\r\n", passes: "*2\r\nAUTH\r\n", broken: true},
		"a length below zero":   {sent: "*1\r\n$-1\r\nAUTH a\r\n", passes: "*1\r\n$-1\r\n", broken: true},
		"open quotes":           {sent: "set 'a\r\nAUTH a\r\n", passes: "set 'a\r\n", broken: true},
		"a zero byte":           {sent: "PING \x00\nAUTH a\r\n", passes: "PING \x00\n", broken: true},
		"a login without end":   {sent: "*2\r\n$4\r\nAUTH\r\n$200000\r\n" + strings.Repeat("y", 200_000), passes: " ", broken: true},
		"HTTP":                  {sent: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", got: []string{"GET|/|HTTP/1.1", "Host:|a"}},
	} {
		want := c.passes
		switch want {
		case "":
			want = c.sent
		case " ":
			want = ""
		}
		for _, piece := range []int{1, 2, 3, 7, 4096, 1 << 20} {
			passed, got, r := reading(c.sent, piece)
			require.Equal(t, want, passed, "%s in pieces of %d", name, piece)
			require.Equal(t, c.got, got, "%s in pieces of %d", name, piece)
			require.Equal(t, c.broken, r.broken, "%s in pieces of %d", name, piece)
		}
	}
}

func TestReplies(t *testing.T) {
	for sent, want := range map[string][]string{
		"+OK\r\n-ERR no\r\n:1\r\n":                                    {"+OK\r\n", "-ERR no\r\n", ":1\r\n"},
		"$3\r\na\r\n\r\n$-1\r\n$0\r\n\r\n":                            {"$3\r\na\r\n\r\n", "$-1\r\n", "$0\r\n\r\n"},
		"*2\r\n*1\r\n:1\r\n$1\r\na\r\n*0\r\n*-1\r\n+OK\r\n":           {"*2\r\n*1\r\n:1\r\n$1\r\na\r\n", "*0\r\n", "*-1\r\n", "+OK\r\n"},
		">2\r\n+message\r\n*1\r\n+x\r\n+OK\r\n":                       {"+OK\r\n"},
		"%1\r\n+a\r\n~2\r\n:1\r\n:2\r\n_\r\n#t\r\n,1.5\r\n(12\r\n":    {"%1\r\n+a\r\n~2\r\n:1\r\n:2\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "(12\r\n"},
		"|1\r\n+ttl\r\n:1\r\n$1\r\na\r\n=5\r\ntxt:a\r\n!3\r\nERR\r\n": {"|1\r\n+ttl\r\n:1\r\n$1\r\na\r\n", "=5\r\ntxt:a\r\n", "!3\r\nERR\r\n"},
	} {
		for _, piece := range []int{1, 3, 1 << 20} {
			var got []string
			r := &replies{done: func(p reply) {
				assert.Len(t, p.head, int(p.size))
				got = append(got, string(p.head))
			}}
			for rest := sent; len(rest) > 0; {
				n := min(piece, len(rest))
				r.feed([]byte(rest[:n]))
				rest = rest[n:]
			}
			require.Equal(t, want, got, "%q in pieces of %d", sent, piece)
			require.False(t, r.lost)
		}
	}
	for _, bad := range []string{"hello\r\n", "*x\r\n", "+OK\n", "$-2\r\n", strings.Repeat("*1\r\n", maxDepth+1), "+" + strings.Repeat("x", maxLine)} {
		r := &replies{done: func(reply) {}}
		r.feed([]byte(bad))
		assert.True(t, r.lost, "%.40q", bad)
	}
}

// FuzzRequests holds that what passes does not depend on the pieces in which it came, that all passes but what a login is
// replaced by, and that little is kept.
func FuzzRequests(f *testing.F) {
	f.Add(array("SET", "a", "1")+"PING\r\nauth x\r\n", 3)
	f.Add("*2\rX$4\rYAUTH\r\n$6\rZsecret\r\n*1\r\n$-1\r\n", 1)
	f.Add("set \"a\\x41' \x00\"\n*0\r\n*-1\r\n"+array("hello", "3", "AUTH", "u", "p"), 2)
	f.Fuzz(func(t *testing.T, sent string, piece int) {
		whole, all, r := reading(sent, len(sent)+1)
		parts, same, _ := reading(sent, 1+max(0, piece)%64)
		if whole != parts || strings.Join(all, "\n") != strings.Join(same, "\n") {
			t.Errorf("%q and %q", whole, parts)
		}
		if len(r.held) > maxHeld || len(r.line) > maxLine+len(sent) || len(r.now.args) > maxArgs {
			t.Errorf("it holds %s", strconv.Itoa(len(r.held)+len(r.line)))
		}
	})
}

func FuzzReplies(f *testing.F) {
	f.Add("*2\r\n*1\r\n:1\r\n$1\r\na\r\n>1\r\n+x\r\n%1\r\n+a\r\n:1\r\n", 3)
	f.Fuzz(func(t *testing.T, sent string, piece int) {
		read := func(piece int) (sizes []int64) {
			r := &replies{done: func(p reply) { sizes = append(sizes, p.size) }}
			for rest := sent; len(rest) > 0; {
				n := min(piece, len(rest))
				r.feed([]byte(rest[:n]))
				rest = rest[n:]
			}
			return sizes
		}
		assert.Equal(t, read(len(sent)+1), read(1+max(0, piece)%64))
	})
}
