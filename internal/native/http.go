package native

import (
	"bytes"
	"net/netip"
	"strconv"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native/weblog"
)

// Parameters of web servers' records.
const (
	ParamMethod = "method" // of a request
	ParamPath   = "path"   // that was asked for, without the query
)

// httpFormats are the logs of nginx and Apache.
func httpFormats() []Format {
	format := func(name, app string, read func(line []byte, ref time.Time) (Record, bool), spans bool) Format {
		return Format{Name: name, App: app, Service: event.HTTP, New: func() Reader { return &lines{format: name, read: read, spans: spans} }}
	}
	return []Format{
		format("nginx-access", "nginx", accessRecord, false),
		format("apache-access", "apache2", accessRecord, false),
		format("nginx-error", "nginx", errorRecord(weblog.Nginx), true),
		format("apache-error", "apache2", errorRecord(weblog.Apache), false),
	}
}

// accessRecord reads a line of an access log. Its text stays whole: it is how the servers write to syslog themselves.
func accessRecord(line []byte, _ time.Time) (Record, bool) {
	a, ok := weblog.ReadAccess(line)
	if !ok {
		return Record{}, false
	}
	r := Record{Text: line}
	r.Time, _ = weblog.AccessTime(a.Stamp)
	if !a.Unsure {
		r.add(ParamSource, canonical(a.Peer))
	}
	r.add(ParamAccount, string(a.User))
	r.add(ParamCode, strconv.Itoa(a.Status))
	if method, target, ok := a.RequestLine(); ok {
		r.add(ParamMethod, string(method))
		r.add(ParamPath, string(weblog.Path(target)))
	}
	return r, true
}

func errorRecord(server weblog.Server) func([]byte, time.Time) (Record, bool) {
	return func(line []byte, ref time.Time) (Record, bool) {
		e, ok := weblog.ReadError(line)
		if !ok || e.Server != server {
			return Record{}, false
		}
		r := Record{Text: line, PID: string(e.PID)}
		if server == weblog.Nginx {
			r.Time, _ = weblog.NginxTime(e.Stamp, ref.Location())
			return r, !r.Time.IsZero()
		}
		if len(e.Stamp) == 0 {
			return Record{}, false // what some program wrote there
		}
		r.Time, _ = weblog.ApacheTime(e.Stamp, ref.Location())
		r.add(ParamSource, canonical(e.Peer))
		if d, ok := e.Denial(); ok {
			r.add(ParamSourcePort, string(e.Port))
			r.add(ParamAccount, string(d.User))
			r.add(ParamPath, string(weblog.Path(d.Target)))
		}
		return r, true
	}
}

// canonical is an address as events have it; empty where b is none.
func canonical(b []byte) string {
	a, err := netip.ParseAddr(string(b))
	if err != nil {
		return ""
	}
	return event.Canonical(a).String()
}

// lines reads a log of which each line is a record, or, where a record may span lines, each line that begins like one.
type lines struct {
	format string
	read   func(line []byte, ref time.Time) (Record, bool)
	spans  bool
	held   []byte // the record that may go on
	ref    time.Time
	out    [1]Record
}

// maxHeld bounds a record of several lines.
const maxHeld = 16 << 10

// Line takes the next line.
func (l *lines) Line(line []byte, ref time.Time) []Record {
	if !l.spans {
		return l.record(line, ref)
	}
	if _, ok := l.read(line, ref); !ok && len(l.held) > 0 {
		if room := maxHeld - len(l.held) - 1; room > 0 {
			l.held = append(append(l.held, '\n'), line[:min(len(line), room)]...)
		}
		return nil
	}
	whole := l.Flush()
	l.held, l.ref = bytes.Clone(line), ref
	return whole
}

// Flush returns the record that was held.
func (l *lines) Flush() []Record {
	if len(l.held) == 0 {
		return nil
	}
	held := l.held
	l.held = nil
	return l.record(held, l.ref)
}

// record is what a line states; one that isn't of the form is a record without a time.
func (l *lines) record(line []byte, ref time.Time) []Record {
	if len(line) == 0 {
		return nil
	}
	r, ok := l.read(line, ref)
	if !ok {
		r = Record{Text: line}
	}
	r.Params = append([]Param{{ParamFormat, l.format}}, r.Params...)
	l.out[0] = r
	return l.out[:]
}
