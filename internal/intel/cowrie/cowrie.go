// Package cowrie writes sessions and their evidence as Cowrie's events (its JSON output as of August 2026),
// one object a line, which Splunk, Elastic, MISP, hpfeeds, T-Pot, DShield and CrowdSec read.
package cowrie

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// timeFormat is Cowrie's; times are UTC.
const timeFormat = "2006-01-02T15:04:05.000000Z"

const malformedKept = 256 // bytes, as Cowrie keeps

// Event is one of Cowrie's events. Its JSON object has the fields of its kind, and no others.
type Event map[string]any

// Renderer makes events. It remembers nothing: what an event says is in the evidence that it is made of.
type Renderer struct {
	Sensor string // the node's name where empty
	UUID   string // of the sensor, which tells it from others
}

// Connect is the event of a session's start, cowrie.session.connect.
func (r Renderer) Connect(s event.Session) Event {
	e := r.base(s, "session.connect", s.StartedAt)
	dst := target(s)
	// CrowdSec's parser reads the message.
	e["message"] = fmt.Sprintf("New connection: %s:%d (%s:%d) [session: %s]", source(s), s.Peer.Port(), dst.Addr(), dst.Port(), s.ID)
	return e
}

// Log is a terminal's recording as a ttylog.
type Log struct {
	SHA256 string
	Size   int64
}

// Session returns all events of a session, in order. logs are the recordings of its terminals by channel; what
// needs one that is missing is left out.
func (r Renderer) Session(s event.Session, left []event.Evidence, logs map[uint32]Log) []Event {
	out := []Event{r.Connect(s)}
	closed := r.Logs(s, left, logs)
	for i, v := range left {
		out = append(out, r.Events(s, v)...)
		if e, ok := closed[i]; ok {
			out = append(out, e)
		}
	}
	return out
}

// Logs returns the events of the ends of a session's terminals, cowrie.log.closed, by the index in left of what
// they follow.
func (r Renderer) Logs(s event.Session, left []event.Evidence, logs map[uint32]Log) map[int]Event {
	out := make(map[int]Event)
	opened := make(map[uint32]time.Time)
	for i, v := range left {
		if v.Start != nil && v.Start.Terminal() && !v.Start.Refused {
			opened[v.Channel] = v.At
		}
		began, terminal := opened[v.Channel]
		if log, ok := logs[v.Channel]; ok && terminal && v.Exit != nil {
			out[i] = r.logClosed(s, v, log, v.At.Sub(began))
		}
	}
	return out
}

func (r Renderer) logClosed(s event.Session, v event.Evidence, log Log, lasted time.Duration) Event {
	e := r.base(s, "log.closed", v.At)
	e["ttylog"], e["size"], e["shasum"], e["duplicate"] = ttylog(s, v.Channel), log.Size, log.SHA256, false
	e["duration_ms"] = lasted.Milliseconds()
	e["message"] = fmt.Sprintf("Closing TTY Log: %s after %.1f seconds", ttylog(s, v.Channel), lasted.Seconds())
	return e
}

// Events returns the events of a piece of evidence of a session; there may be none.
func (r Renderer) Events(s event.Session, v event.Evidence) []Event {
	switch {
	case v.Client != nil:
		return r.client(s, v)
	case v.Login != nil:
		return []Event{r.login(s, v)}
	case v.Key != nil:
		return r.key(s, v)
	case v.Start != nil:
		return r.start(s, v)
	case v.Size != nil:
		return []Event{r.size(s, v.At, v.Size.Width, v.Size.Height)}
	case v.Variable != nil:
		e := r.base(s, "client.var", v.At)
		e["name"], e["value"] = text(v.Variable.Name), text(v.Variable.Value)
		e["message"] = fmt.Sprintf("request_env: %s=%s", e["name"], e["value"])
		return []Event{e}
	case v.File != nil:
		return []Event{r.file(s, v)}
	case v.Forward != nil:
		return r.forward(s, v)
	case v.Egress != nil:
		return r.egress(s, v)
	}
	switch v.Kind { //nolint:exhaustive // those with a field are above
	case event.EvidenceInput:
		return []Event{r.command(s, v.At, v.Input)}
	case event.EvidenceMalformed:
		return []Event{r.malformed(s, v)}
	case event.EvidenceClosed:
		return []Event{r.closed(s, v)}
	}
	return r.seen(s, v)
}

func (r Renderer) base(s event.Session, id string, at time.Time) Event {
	sensor := r.Sensor
	if sensor == "" {
		sensor = s.Node
	}
	dst := target(s)
	return Event{
		"eventid": "cowrie." + id, "sensor": sensor, "uuid": r.UUID, "timestamp": at.UTC().Format(timeFormat), "session": s.ID,
		"src_ip": source(s).String(), "src_port": int(s.Peer.Port()), "dst_ip": dst.Addr().String(), "dst_port": int(dst.Port()),
		"protocol": "ssh", "message": "",
	}
}

// source is the attacker's address, or that of the network that it is known by.
func source(s event.Session) netip.Addr {
	if !s.Attacker.IsSingleIP() && s.Attacker.Contains(s.Peer.Addr()) {
		return s.Peer.Addr()
	}
	return s.Attacker.Addr()
}

// target is where the attacker believes to be.
func target(s event.Session) netip.AddrPort {
	if s.Target.IsValid() {
		return s.Target
	}
	if source(s).Is6() {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), 22)
	}
	return netip.AddrPortFrom(netip.IPv4Unspecified(), 22)
}

func (r Renderer) client(s event.Session, v event.Evidence) []Event {
	if v.Client.Version == "" { // one of TLS, of which Cowrie has no event
		return nil
	}
	version := r.base(s, "client.version", v.At)
	version["version"] = v.Client.Version.Escaped()
	version["message"] = "Remote SSH version: " + v.Client.Version.Escaped()
	if v.Client.HASSH == "" {
		return []Event{version}
	}
	kex := r.base(s, "client.kex", v.At)
	kex["hassh"] = v.Client.HASSH
	kex["hasshAlgorithms"] = joined(v.Client.KEX) + ";" + joined(v.Client.Ciphers) + ";" + joined(v.Client.MACs) + ";" + joined(v.Client.Compress)
	for name, list := range map[string][]event.Bytes{
		"kexAlgs": v.Client.KEX, "keyAlgs": v.Client.HostKeys, "encCS": v.Client.Ciphers, "macCS": v.Client.MACs,
		"compCS": v.Client.Compress, "langCS": v.Client.Language,
	} {
		kex[name] = texts(list)
	}
	kex["message"] = "SSH client hassh fingerprint: " + v.Client.HASSH
	return []Event{version, kex}
}

func texts(list []event.Bytes) []string {
	out := make([]string, 0, max(len(list), 1))
	for _, b := range list {
		out = append(out, b.Escaped())
	}
	if len(out) == 0 {
		out = append(out, "") // an empty list is one empty name to Cowrie
	}
	return out
}

// text is what Cowrie writes as it came: commands and variables. A backslash, a tab and the end of a line stand
// for themselves; what else is not printable becomes \xNN, since people look at it in terminals.
func text(b event.Bytes) string {
	var out strings.Builder
	for rest := string(b); rest != ""; {
		n := strings.IndexAny(rest, "\\\t\n")
		if n < 0 {
			n = len(rest)
		}
		out.WriteString(event.Bytes(rest[:n]).Escaped())
		if n < len(rest) {
			out.WriteByte(rest[n])
			n++
		}
		rest = rest[n:]
	}
	return out.String()
}

func joined(list []event.Bytes) string {
	escaped := make([]string, len(list))
	for i, b := range list {
		escaped[i] = b.Escaped()
	}
	return strings.Join(escaped, ",")
}

func (r Renderer) login(s event.Session, v event.Evidence) Event {
	id, outcome := "login.failed", "failed"
	if v.Login.Success {
		id, outcome = "login.success", "succeeded"
	}
	e := r.base(s, id, v.At)
	password := v.Login.Secret().Escaped()
	e["username"], e["password"] = v.Login.Account.Escaped(), password
	e["message"] = fmt.Sprintf("login attempt [%s/%s] %s", v.Login.Account.Escaped(), password, outcome)
	return e
}

func (r Renderer) key(s event.Session, v event.Evidence) []Event {
	offered := r.base(s, "client.fingerprint", v.At)
	offered["username"] = v.Key.Account.Escaped()
	offered["fingerprint"], offered["key"], offered["type"] = v.Key.MD5, v.Key.Key, v.Key.Type
	offered["message"] = fmt.Sprintf("public key attempt for user %s of type %s with fingerprint %s", v.Key.Account.Escaped(), v.Key.Type, v.Key.MD5)
	failed := r.base(s, "login.failed", v.At)
	failed["username"] = v.Key.Account.Escaped()
	failed["password"] = "" // those who read it for every login would fail
	failed["fingerprint"], failed["key"], failed["type"] = v.Key.MD5, v.Key.Key, v.Key.Type
	failed["message"] = fmt.Sprintf("public key login attempt for [%s] failed", v.Key.Account.Escaped())
	return []Event{offered, failed}
}

func (r Renderer) start(s event.Session, v event.Evidence) []Event {
	if v.Start.Refused {
		return nil
	}
	var out []Event
	if v.Start.Terminal() {
		out = append(out, r.size(s, v.At, v.Start.Width, v.Start.Height))
		log := r.base(s, "log.open", v.At)
		log["ttylog"] = ttylog(s, v.Channel)
		log["message"] = "Opening TTY Log: " + ttylog(s, v.Channel)
		out = append(out, log)
	}
	if v.Start.What == "exec" {
		out = append(out, r.command(s, v.At, v.Start.Command))
	}
	return out
}

// ttylog is what `kokkuri sessions export --format ttylog` is best called.
func ttylog(s event.Session, channel uint32) string {
	return "ttylog/" + s.ID + "-" + strconv.FormatUint(uint64(channel), 10)
}

func (r Renderer) size(s event.Session, at time.Time, width, height uint32) Event {
	e := r.base(s, "client.size", at)
	e["width"], e["height"] = int(width), int(height)
	e["message"] = fmt.Sprintf("Terminal Size: %d %d", width, height)
	return e
}

func (r Renderer) command(s event.Session, at time.Time, line event.Bytes) Event {
	e := r.base(s, "command.input", at)
	e["input"] = text(line)
	e["message"] = "CMD: " + text(line)
	return e
}

func (r Renderer) file(s event.Session, v event.Evidence) Event {
	f := v.File
	if f.How == "fetched" {
		e := r.base(s, "session.file_download", v.At)
		e["url"], e["outfile"], e["shasum"], e["destfile"], e["duplicate"] = f.URL.Escaped(), f.SHA256, f.SHA256, f.Path.Escaped(), false
		e["message"] = fmt.Sprintf("Downloaded URL (%s) with SHA-256 %s to %s", f.URL.Escaped(), f.SHA256, f.SHA256)
		return e
	}
	if f.How == "stdin" {
		e := r.base(s, "session.file_download", v.At)
		e["outfile"], e["shasum"], e["destfile"], e["duplicate"] = f.SHA256, f.SHA256, f.Path.Escaped(), false
		e["message"] = "Saved stdin contents with SHA-256 " + f.SHA256
		return e
	}
	e := r.base(s, "session.file_upload", v.At)
	e["filename"], e["outfile"], e["shasum"] = f.Path.Escaped(), f.SHA256, f.SHA256
	e["message"] = fmt.Sprintf("%s Uploaded file %q with SHA-256 %s", f.How, f.Path.Escaped(), f.SHA256)
	if f.How == "scp" {
		e["url"], e["destfile"], e["duplicate"] = "scp://"+f.Path.Escaped(), f.Path.Escaped(), false
	}
	return e
}

func (r Renderer) forward(s event.Session, v event.Evidence) []Event {
	f := v.Forward
	if f.What != "direct-tcpip" {
		return nil // Cowrie has no event for it
	}
	e := r.base(s, "direct-tcpip.request", v.At)
	e["dst_ip"], e["dst_port"] = f.Destination.Escaped(), int(f.Port)
	e["orig_ip"], e["orig_port"] = f.Origin.Escaped(), int(f.OriginPort)
	e["message"] = fmt.Sprintf("direct-tcp connection request to %s:%d from %s:%d", e["dst_ip"], f.Port, e["orig_ip"], f.OriginPort)
	return []Event{e}
}

func (r Renderer) malformed(s event.Session, v event.Evidence) Event {
	e := r.base(s, "client.malformed_packet", v.At)
	data := []byte(v.Data)
	data = data[:min(len(data), malformedKept)]
	e["messagenum"], e["datalen"], e["data"] = 0, len(v.Data), hex.EncodeToString(data)
	e["message"] = fmt.Sprintf("Malformed SSH packet: message 0, %d bytes", len(v.Data))
	return e
}

func (r Renderer) closed(s event.Session, v event.Evidence) Event {
	e := r.base(s, "session.closed", v.At)
	lasted := v.At.Sub(s.StartedAt)
	e["duration_ms"] = int(lasted.Milliseconds())
	e["duration"] = fmt.Sprintf("%.1f", lasted.Seconds())
	e["message"] = fmt.Sprintf("Connection lost after %.1f seconds", lasted.Seconds())
	return e
}
