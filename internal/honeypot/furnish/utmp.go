package furnish

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Types of records (utmp(5)).
const (
	runLevel    = 1
	bootTime    = 2
	userProcess = 7
	deadProcess = 8

	utmpGroup = 43 // on Debian
)

// login is a record of utmp(5).
type login struct {
	kind           int16
	pid            int32
	line, id, user string
	host           string
	from           netip.Addr
	at             time.Time
}

// record encodes it as glibc has it (bits/utmp.h), whose times are of 32 bits where it can run 32-bit programs.
func (l login) record() []byte {
	e := binary.NativeEndian
	narrow := runtime.GOARCH == "amd64"
	out := e.AppendUint16(make([]byte, 0, 400), uint16(l.kind))
	out = e.AppendUint32(append(out, 0, 0), uint32(l.pid))
	for _, f := range []struct {
		text string
		size int
	}{{l.line, 32}, {l.id, 4}, {l.user, 32}, {l.host, 256}} {
		b := make([]byte, f.size)
		copy(b, f.text)
		out = append(out, b...)
	}
	out = append(out, 0, 0, 0, 0) // how it ended
	if narrow {
		out = e.AppendUint32(out, 0)
		out = e.AppendUint32(e.AppendUint32(out, uint32(l.at.Unix())), uint32(l.at.Nanosecond()/1000))
	} else {
		out = e.AppendUint64(out, 0)
		out = e.AppendUint64(e.AppendUint64(out, uint64(l.at.Unix())), uint64(l.at.Nanosecond()/1000))
	}
	address := make([]byte, 16)
	if l.from.IsValid() {
		copy(address, l.from.AsSlice())
	}
	out = append(append(out, address...), make([]byte, 20)...)
	if !narrow {
		out = append(out, 0, 0, 0, 0)
	}
	return out
}

// started are the records of a machine's start.
func started(at time.Time, release string) []byte {
	const fromNothingTo5 = '5'
	boot := login{kind: bootTime, line: "~", id: "~~", user: "reboot", host: release, at: at}.record()
	return append(boot, login{kind: runLevel, pid: fromNothingTo5, line: "~", id: "~~", user: "runlevel", host: release, at: at.Add(11 * time.Second)}.record()...)
}

// Boot has the pot say since when it runs, and that nobody is logged in; at each of its starts.
func (p *Pot) Boot(at time.Time, release string) error {
	return p.Write("/run/utmp", started(at, release), 0o664, 0, utmpGroup)
}

// remember writes who was logged in when.
func (p *Pot) remember(x Past, visits []visit) error {
	wtmp := started(x.Booted, x.Release)
	latest := map[int]visit{}
	for _, v := range visits {
		in := login{kind: userProcess, pid: int32(v.pid), line: "pts/0", id: "ts/0", user: v.account.name, host: v.from.String(), from: v.from, at: v.start}
		wtmp = append(wtmp, in.record()...)
		wtmp = append(wtmp, login{kind: deadProcess, pid: int32(v.pid), line: "pts/0", at: v.end}.record()...)
		latest[v.account.uid] = v
	}
	errs := []error{p.Write("/var/log/wtmp", wtmp, 0o664, 0, utmpGroup)}
	f, err := p.regular("/var/log/lastlog", unix.O_WRONLY|unix.O_CREAT, 0o664)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for uid, v := range latest {
		r := lastlog(v)
		_, err := f.WriteAt(r, int64(uid)*int64(len(r)))
		errs = append(errs, err)
	}
	if err := errors.Join(append(errs, f.Close())...); err != nil {
		return fmt.Errorf("write who was there: %w", err)
	}
	return nil
}

// lastlog is struct lastlog (bits/utmp.h).
func lastlog(v visit) []byte {
	e := binary.NativeEndian
	var out []byte
	if runtime.GOARCH == "amd64" {
		out = e.AppendUint32(out, uint32(v.start.Unix()))
	} else {
		out = e.AppendUint64(out, uint64(v.start.Unix()))
	}
	line, host := make([]byte, 32), make([]byte, 256)
	copy(line, "pts/0")
	copy(host, v.from.String())
	return append(append(out, line...), host...)
}
