package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// file is one of the files that are made.
type file struct {
	path   string
	text   bytes.Buffer
	logs   []namedLog
	probes bool // its sections say how many probes there were
	start  bool // its first section is what the server says when it starts
}

// namedLog is a log of which the file says what was written.
type namedLog struct {
	mark string // stands before each line, with a |; empty: nothing does
	from grown
}

// grown is what gets more.
type grown interface {
	grew() bool   // since the last call
	take() string // what came since the last call
}

// file begins one. suffix comes after the suite's name.
func (c *capture) file(suffix, title string, logs ...namedLog) *file {
	f := &file{path: filepath.Join(c.folder, c.suite+suffix+".txt"), logs: logs}
	f.title(title)
	return f
}

func (f *file) title(text string) { fmt.Fprintf(&f.text, "# %s\n", text) }

// take returns what the logs got, each line with its mark.
func (f *file) take() string {
	var out strings.Builder
	for _, l := range f.logs {
		text := l.from.take()
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		if l.mark == "" {
			out.WriteString(text)
			continue
		}
		for line := range strings.Lines(text) {
			out.WriteString(l.mark + "|" + line)
		}
	}
	return out.String()
}

func (f *file) save() error {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(f.path, f.text.Bytes(), 0o644)
}

// logFile is a file that a server writes.
type logFile struct {
	path     string
	at, seen int
}

func (c *capture) log(path string) *logFile { return &logFile{path: filepath.Join(c.root, path)} }

func (l *logFile) grew() bool {
	info, err := os.Stat(l.path)
	if err != nil || int(info.Size()) == l.seen {
		return false
	}
	l.seen = int(info.Size())
	return true
}

func (l *logFile) take() string {
	data, _ := os.ReadFile(l.path)
	text := data[min(l.at, len(data)):]
	l.at = len(data)
	return string(text)
}

// asked is a log that a command tells, and forgets.
type asked func() string

func (asked) grew() bool     { return false }
func (a asked) take() string { return a() }

// sysLog takes what is written to /dev/log.
type sysLog struct {
	conn  *net.UnixConn
	lines chan string
	waits strings.Builder
}

func listenSyslog(socket string) (*sysLog, error) {
	_ = os.Remove(socket)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	s := &sysLog{conn: conn, lines: make(chan string, 65536)}
	go func() {
		buf := make([]byte, 65536)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			s.lines <- asFile(string(buf[:n]))
		}
	}()
	return s, os.Chmod(socket, 0o666)
}

func (s *sysLog) grew() bool {
	grew := false
	for {
		select {
		case l := <-s.lines:
			s.waits.WriteString(l + "\n")
			grew = true
		case <-time.After(time.Millisecond):
			return grew
		}
	}
}

func (s *sysLog) take() string {
	s.grew()
	text := s.waits.String()
	s.waits.Reset()
	return text
}

// asFile writes a datagram as rsyslog's traditional file format, with the host's name added and control characters
// escaped as it does.
func asFile(l string) string {
	if i := strings.IndexByte(l, '>'); i > 0 {
		l = l[i+1:]
	}
	const stamp = len("Nov 22 18:00:00 ")
	if len(l) > stamp {
		rest := l[stamp:]
		if w, after, ok := strings.Cut(rest, " "); ok && !strings.HasSuffix(w, ":") {
			rest = after // the sender named a host
		}
		l = l[:stamp] + "web " + rest
	}
	var b strings.Builder
	for _, ch := range []byte(strings.TrimRight(l, "\n\x00")) {
		if ch < ' ' || ch == 127 {
			fmt.Fprintf(&b, "#%03o", ch)
		} else {
			b.WriteByte(ch)
		}
	}
	return b.String()
}
