package detect_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/detect"
)

// mix are the events of a log as `make bench` makes it: a third failures by 2,000 sources, a few logins, the rest restates.
func mix(n int) []event.Event {
	base := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	out := make([]event.Event, n)
	for i := range out {
		source := i * 7919 % 2000
		out[i] = event.Event{
			Service: event.SSH, Kind: event.Context, Source: netip.AddrFrom4([4]byte{203, 0, byte(source >> 8), byte(source)}), SourcePort: uint16(1024 + i%60000),
			Account: "user" + strconv.Itoa(i%50), Host: "web", Time: base.Add(time.Duration(i) * 80 * time.Millisecond),
		}
		switch {
		case i%3 == 0:
			out[i].Kind, out[i].Attempts, out[i].Method = event.AuthFailed, 1, "password"
		case i%100 == 1:
			out[i].Kind, out[i].Account = event.AuthOK, "alice"
		}
	}
	return out
}

// BenchmarkObserve is what an event costs the detector with the rules as shipped.
func BenchmarkObserve(b *testing.B) {
	const n = 1 << 17
	events := mix(n)
	line := []byte("Nov 22 18:00:00 web sshd[12345]: Failed password for invalid user admin from 203.0.113.66 port 40022 ssh2")
	d := detect.New(detect.Options{Rules: detect.DefaultRules()})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e := events[i%n]
		e.Time = e.Time.Add(time.Duration(i/n) * n * 80 * time.Millisecond)
		d.Observe(event.Position{Sequence: uint64(i + 1)}, e, line)
		i++
	}
}

// BenchmarkCondition is what a condition costs; a rule without one pays nothing (BenchmarkObserve).
func BenchmarkCondition(b *testing.B) {
	for name, text := range map[string]string{
		"none":       "",
		"equal":      `account == "root"`,
		"network":    `not in_network(source, "10.0.0.0/8") and hour >= 8`,
		"dear":       `resource matches "(a|b|aa|bb)*c(x+x+)+y" or account matches "^(([a-z])+.)+[A-Z]([a-z])+$"`,
		"dear-nodes": `len(account + account + account + account) + len(resource + resource) > 100000 or account in ["a", "b", "c", "d", "e", "f"]`,
	} {
		b.Run(name, func(b *testing.B) {
			rule := twoRules().Rules[0]
			rule.Count, rule.Within = 10_000, time.Second
			if text != "" {
				c, err := detect.NewCondition(text)
				if err != nil {
					b.Fatal(err)
				}
				rule.If = c
			}
			d := detect.New(detect.Options{Rules: detect.Rules{Rules: []detect.Rule{rule}}})
			e := guess("203.0.113.66", string(make([]byte, 512)), 0)
			e.Resource = "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
			b.ReportAllocs()
			i := uint64(0)
			for b.Loop() {
				i++
				d.Observe(event.Position{Sequence: i}, e, nil)
			}
		})
	}
}

// BenchmarkGroup measures the memory of a group that holds one event, as a flood of sources makes them, and of one that is
// about to fire a rule of the greatest exact count.
func BenchmarkGroup(b *testing.B) {
	for _, c := range []struct {
		name          string
		rule          func(*detect.Rule)
		groups, each  int
		differentiate bool
	}{
		{"one-event", func(*detect.Rule) {}, 100_000, 1, false},
		{"exact-31-of-32-a-day", func(r *detect.Rule) { r.Count, r.Within = 32, 24*time.Hour }, 5_000, 31, false},
		{"bucketed-5000-of-10000-a-day", func(r *detect.Rule) { r.Count, r.Within = 10_000, 24*time.Hour }, 500, 5000, false},
		{"distinct-255-of-256-accounts", func(r *detect.Rule) { r.Count, r.Within, r.Distinct = 256, 24*time.Hour, detect.ByAccount }, 1_000, 255, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			rule := twoRules().Rules[0]
			c.rule(&rule)
			for b.Loop() {
				d := detect.New(detect.Options{Rules: detect.Rules{Rules: []detect.Rule{rule}}, MaxBytes: 1 << 40})
				before := heap()
				seq := uint64(0)
				for n := range c.each {
					for g := range c.groups {
						seq++
						account := "root"
						if c.differentiate {
							account = strconv.Itoa(n)
						}
						e := guess(netip.AddrFrom4([4]byte{10, byte(g >> 16), byte(g >> 8), byte(g)}).String(), account, float64(n*86000/c.each))
						d.Observe(event.Position{Sequence: seq}, e, fmt.Appendf(nil, "Nov 22 18:00:00 web sshd[12345]: Failed password for root from %s port 40022 ssh2", e.Source))
					}
				}
				after := heap()
				s := d.Stats()
				if s.Groups != c.groups {
					b.Fatalf("%+v", s)
				}
				b.ReportMetric(float64(after-before)/float64(c.groups), "heap-bytes/group")
				b.ReportMetric(float64(s.Bytes)/float64(c.groups), "counted-bytes/group")
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkSnapshot is what a checkpoint of 200,000 groups costs, and its restoration.
func BenchmarkSnapshot(b *testing.B) {
	rules := twoRules()
	rules.Rules = rules.Rules[:1]
	d := detect.New(detect.Options{Rules: rules, MaxBytes: 1 << 40})
	for i := range 200_000 {
		source := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		e := guess(source.String(), "root", float64(i)/10_000)
		d.Observe(event.Position{Sequence: uint64(i + 1)}, e, fmt.Appendf(nil, "Nov 22 18:00:00 web sshd[12345]: Failed password for root from %s port 40022 ssh2", source))
	}
	if s := d.Stats(); s.Groups != 200_000 {
		b.Fatalf("%+v", s)
	}
	snapshot, err := d.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if _, err := d.Snapshot(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(snapshot))/200_000, "bytes/group")
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if err := detect.New(detect.Options{Rules: rules, MaxBytes: 1 << 40}).Restore(snapshot); err != nil {
				b.Fatal(err)
			}
		}
	})
}
