package cowrie

import (
	"fmt"
	"strings"

	"github.com/kokkuri/kokkuri/internal/event"
)

// egress tells what a pot sent out in those events of Cowrie's that come nearest: what it would have downloaded, and
// whom it would have reached. A question to the resolver has none, and what was fetched is told with its file.
func (r Renderer) egress(s event.Session, v event.Evidence) []Event {
	e := v.Egress
	switch {
	case e.What == "request" && e.How == "fetched":
		return nil
	case e.What == "request":
		out := r.base(s, "session.file_download.failed", v.At)
		why := "not fetched: the honeypot let nothing out"
		if e.How != "" && e.How != "sinkhole" {
			why = e.How
		}
		out["url"], out["error"] = e.URL.Escaped(), why
		out["message"] = fmt.Sprintf("Attempt to download file(s) from URL (%s) failed", e.URL.Escaped())
		return []Event{out}
	case e.What == "connect":
		to, port := destination(e), int(e.Destination.Port())
		request := r.base(s, "direct-tcpip.request", v.At)
		request["dst_ip"], request["dst_port"] = to, port
		request["orig_ip"], request["orig_port"] = "127.0.0.1", 0
		request["message"] = fmt.Sprintf("direct-tcp connection request to %s:%d from 127.0.0.1:0", to, port)
		out := []Event{request}
		if e.Data != "" {
			data := r.base(s, "direct-tcpip.data", v.At)
			data["dst_ip"], data["dst_port"], data["id"], data["data"] = to, port, 0, literal(e.Data)
			data["message"] = fmt.Sprintf("direct-tcp forward to %s:%d with data %s", to, port, literal(e.Data))
			out = append(out, data)
		}
		return out
	}
	return nil
}

// destination names a connection's: by its name where the address is our own invention.
func destination(e *event.Egress) string {
	if e.Name != "" && e.Invented {
		return e.Name.Escaped()
	}
	return e.Destination.Addr().String()
}

// literal writes bytes as Python does.
func literal(b event.Bytes) string {
	var out strings.Builder
	out.WriteString("b'")
	for _, c := range []byte(b) {
		switch {
		case c == '\'' || c == '\\':
			out.WriteByte('\\')
			out.WriteByte(c)
		case c == '\n':
			out.WriteString(`\n`)
		case c == '\r':
			out.WriteString(`\r`)
		case c == '\t':
			out.WriteString(`\t`)
		case c < ' ' || c > '~':
			fmt.Fprintf(&out, `\x%02x`, c)
		default:
			out.WriteByte(c)
		}
	}
	out.WriteByte('\'')
	return out.String()
}
