package native

import (
	"strconv"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/native/ftplog"
	"github.com/kokkuri/kokkuri/internal/native/weblog"
)

// ftpFormats are the logs of FTP servers: vsftpd's vsftpd_log_file, ProFTPD's SystemLog, and Pure-FTPd's log of
// transfers (-O clf:FILE; it writes logins to syslog only).
func ftpFormats() []Format {
	format := func(name, app string, read func(line []byte, ref time.Time) (Record, bool)) Format {
		return Format{Name: name, App: app, Service: event.FTP, New: func() Reader { return &lines{format: name, read: read} }}
	}
	return []Format{
		format("vsftpd", "vsftpd", vsftpdRecord),
		format("proftpd", "proftpd", proftpdRecord),
		format("pure-ftpd", "pure-ftpd", transferRecord),
	}
}

// vsftpdRecord makes of a line what vsftpd would have written to syslog. Its times are local.
func vsftpdRecord(line []byte, ref time.Time) (Record, bool) {
	stamp, pid, text, ok := ftplog.CutVsftpd(line)
	if !ok {
		return Record{}, false
	}
	t, err := time.ParseInLocation("Mon Jan _2 15:04:05 2006", string(stamp), ref.Location())
	if err != nil {
		return Record{}, false
	}
	r := Record{Time: t.UTC(), PID: string(pid), Text: text}
	r.addEntry(ftplog.Vsftpd(text))
	return r, true
}

// proftpdRecord makes of a line what ProFTPD would have written to syslog, but for the colon before its text. Its times are
// local.
func proftpdRecord(line []byte, ref time.Time) (Record, bool) {
	stamp, pid, text, ok := ftplog.CutProftpd(line)
	if !ok {
		return Record{}, false
	}
	t, err := time.ParseInLocation("2006-01-02 15:04:05,000", string(stamp), ref.Location())
	if err != nil {
		return Record{}, false
	}
	r := Record{Time: t.UTC(), PID: string(pid), Text: text}
	r.addEntry(ftplog.Proftpd(text))
	return r, true
}

// transferRecord reads a line in the common log format.
func transferRecord(line []byte, _ time.Time) (Record, bool) {
	a, ok := weblog.ReadAccess(line)
	if !ok {
		return Record{}, false
	}
	r := Record{Text: line}
	if r.Time, ok = weblog.AccessTime(a.Stamp); !ok {
		return Record{}, false
	}
	if !a.Unsure {
		r.add(ParamSource, canonical(a.Peer))
	}
	r.add(ParamAccount, string(a.User))
	r.add(ParamCode, strconv.Itoa(a.Status))
	return r, true
}

// addEntry states what is sure of an entry.
func (r *Record) addEntry(e ftplog.Entry, ok bool) {
	if !ok {
		return
	}
	r.add(ParamSource, canonical(e.Peer))
	r.add(ParamAccount, string(e.User))
}
