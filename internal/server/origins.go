package server

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/parse"
)

const (
	maxOrigins = 4096
	// originMemory is how long doctor tells of what was seen.
	originMemory = 24 * time.Hour
)

// originKey names what is told of together.
type originKey struct {
	host    string
	road    event.Road
	service event.Service
}

// origin counts, since the server started, what of a host's service came by a road and can't count, or not for sure.
type origin struct {
	unvouched, noAddress, forged int64
	lastUnvouched, lastNoAddress time.Time
	lastForged                   time.Time
}

// origins are kept for doctor. They are bounded; what is beyond is in the counters. They aren't safe for concurrent use.
type origins struct{ by map[originKey]*origin }

func (o *origins) note(host string, road event.Road, kind event.Kind, n parse.Note, now time.Time) {
	states, vouched := kind != event.None && kind != event.Context, n.Vouched && !open(road)
	if !n.Forged && !n.NoAddress && (vouched || !states) {
		return
	}
	k := originKey{host, road, n.Service}
	at := o.by[k]
	if at == nil {
		if len(o.by) >= maxOrigins {
			return
		}
		if o.by == nil {
			o.by = map[originKey]*origin{}
		}
		at = &origin{}
		o.by[k] = at
	}
	if n.Forged {
		at.forged++
		at.lastForged = now
		return
	}
	if n.NoAddress {
		at.noAddress++
		at.lastNoAddress = now
	}
	if states && !vouched {
		at.unvouched++
		at.lastUnvouched = now
	}
}

// open says whether any program of a host can speak on a road as if it were the host's syslog daemon: without a key that
// only root can read, who wrote a line is what the line says.
func open(road event.Road) bool {
	return road == event.RoadSyslogTCP || road == event.RoadSyslogUDP
}

// findings say what of a host's lines counts for nothing, and what anybody on it could have written.
func (o *origins) findings(now time.Time) []event.Finding {
	var out []event.Finding
	warn := func(host, text, mend string) {
		out = append(out, event.Finding{Level: "warning", Subject: "host " + host, Text: text, Mend: mend})
	}
	keys := make([]originKey, 0, len(o.by))
	for k := range o.by {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b originKey) int {
		return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.road, b.road), cmp.Compare(a.service, b.service))
	})
	unvouched := map[originKey]bool{}
	for _, k := range keys {
		at := o.by[k]
		if recent(at.lastForged, now) {
			warn(k.host, fmt.Sprintf("%d lines by road %s claimed to be of %s and were written by another program: they count for nothing", at.forged, k.road, k.service),
				"somebody on the host writes to its log in another's name; journalctl -o verbose shows _UID and _EXE of who did")
		}
		if recent(at.lastNoAddress, now) {
			warn(k.host, fmt.Sprintf("%d attempts at %s name no address and count against nobody: a name proves nothing, its owner chooses it", at.noAddress, k.service), addressMend(k.service))
		}
		road := originKey{host: k.host, road: k.road}
		if recent(at.lastUnvouched, now) && !unvouched[road] {
			unvouched[road] = true
			warn(k.host, unvouchedText(k.road),
				"take the journal instead of files, or rsyslog over TLS with the lines of: kokkuri rsyslog-config "+k.host)
		}
	}
	return out
}

func unvouchedText(road event.Road) string {
	return fmt.Sprintf("the road %s does not say who wrote a line: any user of the host can write one in another program's name", road)
}

// toldOnce leaves out that the agent's road does not say who wrote a line where the host's agent itself tells that, and of which file.
func toldOnce(lines []event.Finding, agents func(host string) []event.Finding) []event.Finding {
	return slices.DeleteFunc(lines, func(f event.Finding) bool {
		if f.Text != unvouchedText(event.RoadAgent) {
			return false
		}
		return slices.ContainsFunc(agents(strings.TrimPrefix(f.Subject, "host ")), func(f event.Finding) bool { return f.Text == event.Forgeable })
	})
}

func recent(at, now time.Time) bool { return !at.IsZero() && now.Sub(at) < originMemory }

// addressMend says how a service is made to write addresses.
func addressMend(s event.Service) string {
	const usual = "turn reverse lookups off in its configuration"
	switch s {
	case event.SSH:
		return "set UseDNS no in sshd_config"
	case event.MySQL:
		return "set skip-name-resolve in the server's configuration"
	case event.Postgres:
		return "set log_hostname = off in postgresql.conf, and %h in log_line_prefix"
	case event.FTP:
		return "turn reverse lookups off: UseReverseDNS off (proftpd), DontResolve yes (pure-ftpd)"
	case event.HTTP:
		return "set HostnameLookups Off (Apache)"
	case event.Telnet:
		return "let telnetd hand addresses over, not names: take the clients' names out of /etc/hosts and its resolver's reach"
	case event.Redis, event.SMTP, event.IMAP, event.PAM, event.ServicePot:
	}
	return usual
}
