package cowrie

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

const (
	timeFormat   = "2006-01-02T15:04:05.000000Z"
	maxMalformed = 256 // bytes
)

// evidence renders a piece of evidence.
func (v view) evidence(e event.Evidence) []Event {
	if e.Number > 0 && e.Number <= v.last {
		return nil
	}
	v.last = max(v.last, e.Number)
	switch {
	case e.Kind == event.EvidenceClosed:
		return v.closed(e.At)
	case e.Kind == event.EvidenceMalformed:
		return []Event{v.malformed(e)}
	case e.Kind == event.EvidenceInput:
		return []Event{v.typed(e)}
	case e.Kind == event.EvidenceExit:
		return v.exit(e.Channel, e.At)
	case e.Client != nil:
		return v.client(e.At, *e.Client)
	case e.Login != nil:
		return []Event{v.login(e.At, *e.Login)}
	case e.Key != nil:
		return v.key(e.At, *e.Key)
	case e.Start != nil:
		return v.started(e)
	case e.Size != nil:
		return []Event{v.size(e.At, e.Size.Width, e.Size.Height)}
	case e.Variable != nil:
		return []Event{v.variable(e.At, *e.Variable)}
	case e.File != nil:
		return []Event{v.file(e.At, *e.File)}
	case e.Forward != nil && e.Forward.What == "direct-tcpip":
		return []Event{v.forward(e.At, *e.Forward)}
	}
	return nil
}

func (v view) head(id string, at time.Time, format string, args ...any) head {
	source, target := v.source(), v.target()
	protocol := string(v.s.Service)
	if protocol == "" {
		protocol = string(event.SSH)
	}
	return head{
		ID: "cowrie." + id, Message: fmt.Sprintf(format, args...), Sensor: v.o.Sensor, UUID: v.o.UUID,
		Timestamp: at.UTC().Format(timeFormat), Session: v.s.ID, Protocol: protocol,
		SrcIP: source.String(), SrcPort: v.s.Peer.Port(), DstIP: target.Addr().String(), DstPort: target.Port(),
	}
}

func (v view) source() netip.Addr {
	peer := v.s.Peer.Addr().Unmap().WithZone("")
	if prefix := v.s.Attacker; prefix.IsValid() && (prefix.IsSingleIP() || !prefix.Contains(peer)) {
		return prefix.Addr()
	}
	return known(peer, false)
}

func (v view) target() netip.AddrPort {
	addr := v.s.Target.Addr().Unmap().WithZone("")
	return netip.AddrPortFrom(known(addr, v.source().Is6()), v.s.Target.Port())
}

func known(a netip.Addr, six bool) netip.Addr {
	switch {
	case a.IsValid():
		return a
	case six:
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func (v view) connect() Event {
	h := v.head("session.connect", v.s.StartedAt, "")
	h.Message = fmt.Sprintf("New connection: %s:%d (%s:%d) [session: %s]", h.SrcIP, h.SrcPort, h.DstIP, h.DstPort, h.Session)
	return Event{h.ID, sessionConnect{h}}
}

// closed renders the session's end, and before it that of the terminals that are still open.
func (v view) closed(at time.Time) []Event {
	if v.track.closed {
		return nil
	}
	v.track.closed = true
	var out []Event
	for _, channel := range slices.Sorted(maps.Keys(v.programs)) {
		out = append(out, v.exit(channel, at)...)
	}
	lasted := max(at.Sub(v.s.StartedAt), 0)
	seconds := fmt.Sprintf("%.1f", lasted.Seconds())
	h := v.head("session.closed", at, "Connection lost after %s seconds", seconds)
	return append(out, Event{h.ID, sessionClosed{h, lasted.Milliseconds(), seconds}})
}

func (v view) client(at time.Time, c event.Client) []Event {
	h := v.head("client.version", at, "Remote SSH version: %s", c.Version)
	out := []Event{{h.ID, clientVersion{h, c.Version}}}
	if c.HASSH == "" {
		return out
	}
	h = v.head("client.kex", at, "SSH client hassh fingerprint: %s", c.HASSH)
	lists := []string{join(c.KEX), join(c.Ciphers), join(c.MACs), join(c.Compress)}
	return append(out, Event{h.ID, clientKex{
		head: h, HASSH: c.HASSH, Algorithms: strings.Join(lists, ";"),
		KEX: list(c.KEX), HostKeys: list(c.HostKeys), Ciphers: list(c.Ciphers),
		MACs: list(c.MACs), Compress: list(c.Compress), Language: list(c.Language),
	}})
}

// list is never null.
func list(l []event.Bytes) []event.Bytes { return append([]event.Bytes{}, l...) }

func join(l []event.Bytes) string {
	texts := make([]string, len(l))
	for i, b := range l {
		texts[i] = b.Escaped()
	}
	return strings.Join(texts, ",")
}

func (v view) login(at time.Time, l event.Login) Event {
	id, outcome := "login.failed", "failed"
	if l.Success {
		id, outcome = "login.success", "succeeded"
	}
	password := l.Password
	if l.Hash != "" {
		password = event.Bytes(l.Hash)
	}
	h := v.head(id, at, "login attempt [%s/%s] %s", l.Account, password, outcome)
	return Event{h.ID, login{h, l.Account, password}}
}

func (v view) key(at time.Time, k event.Key) []Event {
	h := v.head("client.fingerprint", at, "public key attempt for user %s of type %s with fingerprint %s", k.Account, k.Type, k.MD5)
	seen := Event{h.ID, clientFingerprint{h, k.Account, k.MD5, k.Key, k.Type}}
	h = v.head("login.failed", at, "public key login attempt for [%s] failed", k.Account)
	return []Event{seen, {h.ID, keyLogin{head: h, Username: k.Account, Fingerprint: k.MD5, Key: k.Key, Type: k.Type}}}
}

func (v view) started(e event.Evidence) []Event {
	s := *e.Start
	v.start(e.Channel, s, e.At)
	var out []Event
	if s.Terminal() {
		out = append(out, v.size(e.At, s.Width, s.Height))
	}
	if p, runs := v.programs[e.Channel]; runs && p.terminal && !s.Refused {
		h := v.head("log.open", e.At, "Opening TTY Log: %s", v.ttylog(e.Channel))
		out = append(out, Event{h.ID, logOpen{h, v.ttylog(e.Channel)}})
	}
	if s.What == "exec" {
		out = append(out, v.command(e.At, s.Command, ""))
	}
	return out
}

func (v view) typed(e event.Evidence) Event {
	realm := ""
	if p, runs := v.programs[e.Channel]; runs && !p.terminal {
		realm = "stdin"
	}
	return v.command(e.At, e.Input, realm)
}

func (v view) command(at time.Time, input event.Bytes, realm string) Event {
	h := v.head("command.input", at, "CMD: %s", string(input))
	return Event{h.ID, commandInput{h, string(input), realm}}
}

func (v view) ttylog(channel uint32) string { return fmt.Sprintf("ttylog/%s-%d", v.s.ID, channel) }

func (v view) exit(channel uint32, at time.Time) []Event {
	p, runs := v.programs[channel]
	delete(v.programs, channel)
	if !runs || !p.terminal {
		return nil
	}
	out := logClosed{TTYLog: v.ttylog(channel), Milliseconds: max(at.Sub(p.began), 0).Milliseconds()}
	out.head = v.head("log.closed", at, "Closing TTY Log: %s after %d milliseconds", out.TTYLog, out.Milliseconds)
	if v.o.Log != nil {
		if log, ok := v.o.Log(v.s.ID, channel); ok {
			out.Size, out.SHA256 = &log.Size, log.SHA256
		}
	}
	return []Event{{out.ID, out}}
}

func (v view) size(at time.Time, width, height uint32) Event {
	h := v.head("client.size", at, "Terminal Size: %d %d", width, height)
	return Event{h.ID, clientSize{h, width, height}}
}

func (v view) variable(at time.Time, e event.Variable) Event {
	h := v.head("client.var", at, "request_env: %s=%s", string(e.Name), string(e.Value))
	return Event{h.ID, clientVar{h, string(e.Name), string(e.Value)}}
}

func (v view) malformed(e event.Evidence) Event {
	data := e.Data[:min(len(e.Data), maxMalformed)]
	h := v.head("client.malformed_packet", e.At, "Malformed packet of %d bytes", len(e.Data))
	return Event{h.ID, malformedPacket{head: h, Length: len(e.Data), Data: hex.EncodeToString([]byte(data))}}
}

func (v view) file(at time.Time, f event.File) Event {
	out := ""
	if f.SHA256 != "" {
		out = "downloads/" + f.SHA256
	}
	name := string(f.Path)
	switch f.How {
	case "stdin":
		h := v.head("session.file_download", at, "Saved stdin contents with SHA-256 %s to %s", f.SHA256, out)
		return Event{h.ID, fileDownload{head: h, OutFile: out, SHA256: f.SHA256, DestFile: name}}
	case "scp":
		h := v.head("session.file_upload", at, "SCP Uploaded file %q to %s", path.Base(name), out)
		return Event{h.ID, scpUpload{fileUpload: fileUpload{h, path.Base(name), out, f.SHA256}, URL: name, DestFile: name}}
	}
	h := v.head("session.file_upload", at, "%s Uploaded file %q to %s", strings.ToUpper(f.How), name, out)
	return Event{h.ID, fileUpload{h, name, out, f.SHA256}}
}

func (v view) forward(at time.Time, f event.Forward) Event {
	h := v.head("direct-tcpip.request", at, "direct-tcp connection request to %s:%d from %s:%d",
		string(f.Destination), f.Port, string(f.Origin), f.OriginPort)
	return Event{h.ID, directTCPIP{h, string(f.Destination), f.Port, string(f.Origin), f.OriginPort}}
}
