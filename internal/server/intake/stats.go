package intake

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kokkuri/kokkuri/internal/tail"
)

// Reasons for which a line is put aside.
const (
	reasonNoHost      = "no_host"      // it names no host
	reasonOtherHost   = "other_host"   // it names another host than the one that sent it
	reasonUnknownHost = "unknown_host" // it names, or lies in a file of, a host that is not known
)

const (
	maxQuarantine     = 20   // lines that are kept to be looked at
	maxQuarantineLine = 1024 // bytes of them

	maxQuarantineHosts = 4096 // senders whose lines are counted apart
)

// Quarantined is a line that was put aside.
type Quarantined struct {
	At     time.Time  `json:"at"`
	Sender netip.Addr `json:"sender,omitzero"` // of a line that came by the network
	Host   string     `json:"host,omitempty"`  // that the sender is, or the relay
	File   string     `json:"file,omitempty"`  // of one that was read on the server
	Reason string     `json:"reason"`
	Line   string     `json:"line"` // the sender's bytes: escape before showing
}

// Stats counts what came in and what was left out.
type Stats struct {
	Connections    int64            `json:"connections"` // open now
	Accepted       int64            `json:"accepted"`
	RefusedUnknown int64            `json:"refused_unknown"` // connections and datagrams from addresses of no host
	RefusedTotal   int64            `json:"refused_total"`   // connections beyond the limit in total
	RefusedSender  int64            `json:"refused_sender"`  // connections beyond the limit for one sender
	RefusedTLS     int64            `json:"refused_tls"`     // connections whose handshake failed, or whose certificate is of no host
	AcceptErrors   int64            `json:"accept_errors"`
	Lines          int64            `json:"lines"` // handed on
	Batches        int64            `json:"batches"`
	Retries        int64            `json:"retries"`        // failed tries to hand a batch on
	CutLines       int64            `json:"cut_lines"`      // overlong
	BadFrames      int64            `json:"bad_frames"`     // connections closed because of a frame that is none
	HalfFrames     int64            `json:"half_frames"`    // at the end of a connection
	SlowFrames     int64            `json:"slow_frames"`    // connections closed because a frame took too long
	Idle           int64            `json:"idle"`           // connections closed because nothing came
	LostAtStop     int64            `json:"lost_at_stop"`   // lines that the bus did not take before we had to stop
	UDPLines       int64            `json:"udp_lines"`      // handed on; also in Lines
	UDPUntrusted   int64            `json:"udp_untrusted"`  // of these, from networks that nobody vouches for
	UDPDropped     int64            `json:"udp_dropped"`    // because the bus was slower
	Quarantined    map[string]int64 `json:"quarantined"`    // lines put aside, by reason
	QuarantinedOf  map[string]int64 `json:"quarantined_of"` // lines put aside, by the host or relay that sent them
	Quarantine     []Quarantined    `json:"quarantine"`     // the last of them, oldest first
	Files          tail.Stats       `json:"files"`
}

// Counters returns the numbers by name, for metrics.
func (s Stats) Counters() map[string]int64 {
	out := map[string]int64{
		"connections": s.Connections, "accepted": s.Accepted, "refused_unknown": s.RefusedUnknown, "refused_total": s.RefusedTotal,
		"refused_sender": s.RefusedSender, "refused_tls": s.RefusedTLS, "accept_errors": s.AcceptErrors, "lines": s.Lines, "batches": s.Batches, "retries": s.Retries,
		"cut_lines": s.CutLines + s.Files.CutLines, "bad_frames": s.BadFrames, "half_frames": s.HalfFrames, "slow_frames": s.SlowFrames,
		"idle": s.Idle, "lost_at_stop": s.LostAtStop, "udp_lines": s.UDPLines, "udp_untrusted": s.UDPUntrusted, "udp_dropped": s.UDPDropped,
		"file_lines": s.Files.Lines, "file_rotations": s.Files.Rotations, "file_truncations": s.Files.Truncations,
		"file_lost": s.Files.LostFiles, "file_partials": s.Files.Partials, "file_unended": s.Files.Unended, "file_hosts_dropped": s.Files.DroppedHost,
	}
	for reason, n := range s.Quarantined {
		out["quarantined_"+reason] = n
	}
	return out
}

// counts are the live numbers.
type counts struct {
	connections, accepted, refusedUnknown, refusedTotal, refusedSender, acceptErrors atomic.Int64
	lines, batches, retries, cutLines, badFrames, halfFrames, slowFrames, idle, lost atomic.Int64
	udpLines, udpUntrusted, udpDropped                                               atomic.Int64

	handshakes atomic.Int64

	mu      sync.Mutex
	hosts   map[string]int64
	reasons map[string]int64
	last    []Quarantined
}

// putAside notes a line that is not handed on.
func (c *counts) putAside(q Quarantined, line []byte) {
	q.Line = string(line[:min(len(line), maxQuarantineLine)])
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reasons == nil {
		c.reasons, c.hosts = make(map[string]int64), make(map[string]int64)
	}
	c.reasons[q.Reason]++
	if _, known := c.hosts[q.Host]; q.Host != "" && (known || len(c.hosts) < maxQuarantineHosts) {
		c.hosts[q.Host]++
	}
	if len(c.last) == maxQuarantine {
		copy(c.last, c.last[1:])
		c.last = c.last[:maxQuarantine-1]
	}
	c.last = append(c.last, q)
}

// QuarantinedOf returns how many lines of a host or relay were put aside.
func (in *Intake) QuarantinedOf(host string) int64 {
	in.counts.mu.Lock()
	defer in.counts.mu.Unlock()
	return in.counts.hosts[host]
}

func (c *counts) snapshot() Stats {
	s := Stats{
		Connections: c.connections.Load(), Accepted: c.accepted.Load(), RefusedUnknown: c.refusedUnknown.Load(), RefusedTotal: c.refusedTotal.Load(),
		RefusedSender: c.refusedSender.Load(), RefusedTLS: c.handshakes.Load(), AcceptErrors: c.acceptErrors.Load(), Lines: c.lines.Load(), Batches: c.batches.Load(),
		Retries: c.retries.Load(), CutLines: c.cutLines.Load(), BadFrames: c.badFrames.Load(), HalfFrames: c.halfFrames.Load(),
		SlowFrames: c.slowFrames.Load(), Idle: c.idle.Load(), LostAtStop: c.lost.Load(), UDPLines: c.udpLines.Load(),
		UDPUntrusted: c.udpUntrusted.Load(), UDPDropped: c.udpDropped.Load(), Quarantined: map[string]int64{}, QuarantinedOf: map[string]int64{},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(s.Quarantined, c.reasons)
	maps.Copy(s.QuarantinedOf, c.hosts)
	s.Quarantine = append([]Quarantined{}, c.last...)
	return s
}
