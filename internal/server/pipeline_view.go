package server

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// lineFindings are what doctor says of the lines that came: by whom they may have been written, what in them counts for
// nothing, and whose clock is off.
func (p *pipeline) lineFindings() []event.Finding {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.origins.findings(p.now())
	for _, c := range p.clocks.off() {
		by := "behind"
		if c.Offset > 0 {
			by = "ahead"
		}
		text, mend := fmt.Sprintf("the times in its lines by road %s are %s %s: they are mended", c.Road, c.Offset.Abs(), by), "set its clock: timedatectl set-ntp true"
		if c.Local {
			mend = "where its clock is right it is in another zone: let its syslog write times with a zone (rsyslog: RSYSLOG_SyslogProtocol23Format)"
		}
		out = append(out, event.Finding{Level: "warning", Subject: "host " + c.Host, Text: text, Mend: mend})
	}
	return out
}

// secondRoads are the roads that brought, within the last hour, what another brings already.
func (p *pipeline) secondRoads() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for road, at := range p.second {
		if p.now().Sub(at) < time.Hour {
			out = append(out, road)
		}
	}
	slices.Sort(out)
	return out
}

// drops counts what the detector and the memory of logins left out.
func (p *pipeline) drops() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.detector == nil {
		return nil
	}
	st := p.detector.Stats()
	return map[string]int64{
		"groups_evicted": int64(st.Evicted), "heavy_groups_evicted": int64(st.EvictedHeavy), "events_late": int64(st.Late),
		"conditions_unanswered": int64(st.Conditions), "open_evicted": int64(st.EvictedOpen), "logins_evicted": int64(st.EvictedLogins) + p.decider.Logins().Evicted(),
		"without_group": int64(st.NoGroup), "replayed": int64(st.Replayed),
	}
}

// position is the sequence of the last batch that was evaluated.
func (p *pipeline) position() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seq
}

// roadsByHost are the roads by which each host's services are evaluated.
func (p *pipeline) roadsByHost() map[string][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string][]string{}
	for k, r := range p.roads.current {
		out[k.Host] = append(out[k.Host], string(k.Service)+" by "+string(r.Road))
	}
	return out
}

// spare are the source's open connections to a service whose login succeeded.
func (p *pipeline) spare(host string, s event.Service, source netip.Prefix) []netip.AddrPort {
	d := p.current.Load() // without the lock, which is held while the decider's workers are waited for
	if d == nil {
		return nil
	}
	return d.Logins(host, s, source)
}
