package collect

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/native"
)

// entryFields are the fields of the journal (systemd.journal-fields(7)) that are asked for, beside those that journalctl
// always gives. Those that begin with _ are stated by journald itself; the others are the writer's.
const entryFields = "MESSAGE,SYSLOG_IDENTIFIER,SYSLOG_PID,_PID,_UID,_EXE,_COMM,_SYSTEMD_UNIT,_TRANSPORT,_SOURCE_REALTIME_TIMESTAMP"

// entry is one of the journal as `journalctl -o json --all` prints it.
type entry struct {
	Cursor     string     `json:"__CURSOR"`
	Realtime   string     `json:"__REALTIME_TIMESTAMP"` // microseconds since 1970
	Source     entryField `json:"_SOURCE_REALTIME_TIMESTAMP"`
	Message    entryField `json:"MESSAGE"`
	Identifier entryField `json:"SYSLOG_IDENTIFIER"`
	StatedPID  entryField `json:"SYSLOG_PID"`
	PID        entryField `json:"_PID"`
	UID        entryField `json:"_UID"`
	Exe        entryField `json:"_EXE"`
	Comm       entryField `json:"_COMM"`
	Unit       entryField `json:"_SYSTEMD_UNIT"`
	Transport  entryField `json:"_TRANSPORT"`
}

// entryField is a field's value: a string; an array of bytes where it is no printable UTF-8; an array of either where
// the field stands more than once, of which the first counts.
type entryField []byte

var errEntryField = errors.New("neither a string nor an array of bytes")

// UnmarshalJSON reads any of the forms.
func (f *entryField) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	switch {
	case len(b) == 0 || string(b) == "null": // too large for a journalctl without --all
		*f = nil
		return nil
	case b[0] == '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err //nolint:wrapcheck // json's own
		}
		*f = entryField(s)
		return nil
	case b[0] != '[':
		return errEntryField
	}
	inner := bytes.TrimSpace(b[1:])
	if len(inner) > 0 && (inner[0] == '"' || inner[0] == '[' || inner[0] == 'n') {
		var values []json.RawMessage
		if err := json.Unmarshal(b, &values); err != nil {
			return err //nolint:wrapcheck // json's own
		}
		if inner[0] == '[' {
			if deep := bytes.TrimSpace(values[0][1:]); len(deep) > 0 && deep[0] == '[' {
				return errEntryField // deeper than journalctl writes
			}
		}
		return f.UnmarshalJSON(values[0])
	}
	return f.bytes(inner)
}

// bytes reads "1, 2, 255]".
func (f *entryField) bytes(b []byte) error {
	out := make([]byte, 0, len(b)/4+1)
	for part := range bytes.SplitSeq(bytes.TrimSuffix(b, []byte{']'}), []byte{','}) {
		part = bytes.TrimSpace(part)
		if len(part) == 0 && len(out) == 0 {
			continue
		}
		n, err := strconv.ParseUint(string(part), 10, 8)
		if err != nil {
			return errEntryField
		}
		out = append(out, byte(n))
	}
	*f = out
	return nil
}

// shipped reports whether the entry is one that services write: what the kernel says is none of theirs, and part of it
// may be chosen by anybody (names of processes).
func (e *entry) shipped() bool {
	t := string(e.Transport)
	return t != "kernel" && t != "audit" && len(e.Message) > 0
}

// line is the entry as syslog. cut says how many bytes of an overlong message were left out.
func (e *entry) line(host string) (line []byte, cut int) {
	app := string(e.Identifier)
	if app == "" {
		app = string(e.Comm)
	}
	pid := string(e.PID)
	if pid == "" {
		pid = string(e.StatedPID)
	}
	text := bytes.TrimRight(e.Message, "\r\n")
	if len(text) > maxLine/4 { // an escaped line feed takes four bytes
		cut = len(text) - maxLine/4
		text = text[:maxLine/4]
	}
	return native.Encode(native.Record{Time: e.time(), PID: pid, Text: text, Params: e.trusted()}, host, app), cut
}

// trusted is who wrote the entry, as journald saw it. An entry of which it saw nobody must not pass for one of a road that
// can't see.
func (e *entry) trusted() []native.Param {
	uid := string(e.UID)
	if uid == "" {
		uid = "unknown"
	}
	params := []native.Param{{Name: native.ParamUID, Value: uid}}
	if len(e.Exe) > 0 {
		// A program that was replaced by an update runs on as what was deleted.
		params = append(params, native.Param{Name: native.ParamExe, Value: strings.TrimSuffix(string(e.Exe), " (deleted)")})
	}
	if len(e.Unit) > 0 {
		params = append(params, native.Param{Name: native.ParamUnit, Value: string(e.Unit)})
	}
	return params
}

// time is when the writer wrote, else when journald read.
func (e *entry) time() time.Time {
	for _, text := range []string{string(e.Source), e.Realtime} {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
			return time.UnixMicro(n)
		}
	}
	return time.Time{}
}

// sameEntry reports whether two cursors name the same entry. Their parts s and i number it within a file, and it may have been
// copied into another; boot, times and the hash of its data stay.
func sameEntry(a, b string) bool {
	return a == b || a != "" && cursorKey(a) != "" && cursorKey(a) == cursorKey(b)
}

func cursorKey(cursor string) string {
	var key strings.Builder
	n := 0
	for part := range strings.SplitSeq(cursor, ";") {
		switch name, _, _ := strings.Cut(part, "="); name {
		case "b", "m", "t", "x":
			key.WriteString(part + ";")
			n++
		}
	}
	if n < 4 {
		return ""
	}
	return key.String()
}

// bootOf is the boot in which the entry that a cursor names was written; empty: it can't be told.
func bootOf(cursor string) string {
	_, rest, _ := strings.Cut(cursor, ";b=")
	id, _, _ := strings.Cut(rest, ";")
	return id
}
