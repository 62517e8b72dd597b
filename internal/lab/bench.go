package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Measured is what a bench found out about one road.
type Measured struct {
	Road        Road  `json:"road"`
	Offences    int   `json:"offences"`
	Legs        []Leg `json:"legs"` // the last one is the sum: log line to redirect in the kernel
	AgentMemory int64 `json:"agent_memory"`
}

// Leg is the distribution of one leg's duration, in milliseconds.
type Leg struct {
	Name   string  `json:"name"`
	Median float64 `json:"median_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
}

// legs of the way from the log line to the kernel.
const (
	legCollect = iota // log line written → collected on its way in
	legParse          // collected → durable in the stream and parsed
	legDetect         // parsed → offence
	legLease          // offence → lease granted by the node
	legApply          // lease → redirect in the host's kernel, confirmed
	legTotal
	legCount
)

func legNames() [legCount]string {
	return [legCount]string{"line collected", "durable, parsed", "offence", "lease", "in the kernel", "line to kernel"}
}

// Bench measures n offences, one after another, each by a source of its own that guesses five passwords
// at web's real sshd. The lab must be up.
func (l *Lab) Bench(ctx context.Context, n int) (Measured, error) {
	saved, err := l.loadState()
	if err != nil {
		return Measured{}, err
	}
	if saved == nil {
		return Measured{}, errors.New("the lab is not up: kokkuri lab up")
	}
	var samples [legCount][]time.Duration
	for i := range n {
		sample, err := l.measure(ctx)
		if err != nil {
			return Measured{}, fmt.Errorf("offence %d: %w", i+1, err)
		}
		for leg, took := range sample {
			samples[leg] = append(samples[leg], took)
		}
		if (i+1)%50 == 0 {
			l.printf("      %d of %d offences by road %s\n", i+1, n, saved.Road)
		}
	}
	m := Measured{Road: saved.Road, Offences: n}
	for leg, name := range legNames() {
		m.Legs = append(m.Legs, legOf(name, samples[leg]))
	}
	if m.AgentMemory, err = l.AgentMemory(ctx); err != nil {
		return m, err
	}
	return m, nil
}

// measure is one offence.
func (l *Lab) measure(ctx context.Context) (sample [legCount]time.Duration, err error) {
	from, err := l.NewSource6(ctx)
	if err != nil {
		return sample, err
	}
	began := time.Now()
	// The connection is cut by the redirect, so that its end is an error in any case.
	tried, guessErr := l.Attacker.Guess(ctx, from, PotAccount, "alpha", "bravo", "charlie", "delta", "echo")
	if tried != failuresOfRule {
		return sample, fmt.Errorf("%d of %d guesses were made: %w", tried, failuresOfRule, guessErr)
	}
	r, err := l.WaitRedirect(ctx, from, 10*time.Second, event.Active)
	if err != nil {
		return sample, err
	}
	logged, err := l.fifthFailure(ctx, from, began)
	if err != nil {
		return sample, err
	}
	offences, err := l.OffencesOf(ctx, from)
	if err != nil {
		return sample, err
	}
	if len(offences) != 1 {
		return sample, fmt.Errorf("%d offences of %s, not 1", len(offences), from)
	}
	o := offences[0]
	return [legCount]time.Duration{
		legCollect: o.ReceivedAt.Sub(logged),
		legParse:   o.EventAt.Sub(o.ReceivedAt),
		legDetect:  o.FiredAt.Sub(o.EventAt),
		legLease:   o.LeasedAt.Sub(o.FiredAt),
		legApply:   r.AppliedAt.Sub(o.LeasedAt),
		legTotal:   r.AppliedAt.Sub(logged),
	}, nil
}

func (l *Lab) fifthFailure(ctx context.Context, from netip.Addr, since time.Time) (time.Time, error) {
	failures, err := l.FailuresOf(ctx, from, since)
	if err != nil {
		return time.Time{}, err
	}
	if len(failures) < failuresOfRule {
		return time.Time{}, fmt.Errorf("web's log has %d failures of %s, not %d", len(failures), from, failuresOfRule)
	}
	return failures[failuresOfRule-1], nil
}

// legOf sums up samples; percentiles are by nearest rank.
func legOf(name string, samples []time.Duration) Leg {
	if len(samples) == 0 {
		return Leg{Name: name}
	}
	sorted := slices.SortedFunc(slices.Values(samples), cmp.Compare[time.Duration])
	rank := func(p float64) float64 {
		i := max(int(math.Ceil(p*float64(len(sorted))))-1, 0)
		return float64(sorted[i].Microseconds()) / 1000
	}
	return Leg{Name: name, Median: rank(0.5), P99: rank(0.99), Max: rank(1)}
}

// Bounds of the measured way, in milliseconds and bytes.
const (
	boundMedian = 5.0
	boundP99    = 25.0
	boundMemory = 25 << 20
)

// printMeasured shows what was measured, with the method beside it, and reports whether it is within bounds.
func (l *Lab) printMeasured(all []Measured) (within bool) {
	within = true
	l.printf(`
Method: %d offences a road, one after another, each from an IPv6 network of its own. A client guesses five
passwords on one connection to the real sshd of kokkuri-lab-web. The clock starts with the time that rsyslog
gave to the fifth refusal's line in /var/log/auth.log, and stops when the agent saw the kernel confirm the
redirect. All clocks are this machine's. Others, measured elsewhere: fail2ban 510 ms, CrowdSec 4900 ms (medians).

`, all[0].Offences)
	for _, m := range all {
		l.printf("road %s\n  %-18s %12s %12s %12s\n", m.Road, "leg", "median", "99th", "worst")
		for _, leg := range m.Legs {
			l.printf("  %-18s %9.2f ms %9.2f ms %9.2f ms\n", leg.Name, leg.Median, leg.P99, leg.Max)
		}
		total := m.Legs[legTotal]
		l.printf("  agent resident %.1f MiB\n", float64(m.AgentMemory)/(1<<20))
		ok := total.Median <= boundMedian && total.P99 <= boundP99 && m.AgentMemory <= boundMemory
		verdict := "within"
		if !ok {
			verdict = "NOT within"
		}
		l.printf("  %s median ≤ %.0f ms, 99th percentile ≤ %.0f ms, agent ≤ %d MiB\n\n", verdict, boundMedian, boundP99, boundMemory>>20)
		within = within && ok
	}
	return within
}

// ErrOutOfBounds says that a bench measured more than it may.
var ErrOutOfBounds = errors.New("slower or bigger than it may be")

// BenchAll brings the lab up, measures n offences by each road in turn, and takes it down again.
func BenchAll(ctx context.Context, o Options, n int) (all []Measured, err error) {
	l, err := New(o)
	if err != nil {
		return nil, err
	}
	defer l.Close() //nolint:errcheck // its end is that of the bench
	if err := l.Down(ctx); err != nil {
		return nil, err
	}
	if err := l.Up(ctx); err != nil {
		return nil, err
	}
	_, slow := l.Prompts(ctx, promptCount)
	if slow != nil && !errors.Is(slow, ErrOutOfBounds) {
		return nil, errors.Join(slow, l.Down(ctx))
	}
	for _, road := range []Road{RoadAgent, RoadRsyslog} {
		m, err := l.benchRoad(ctx, road, n)
		if err != nil {
			return all, errors.Join(fmt.Errorf("bench by road %s: %w", road, err), l.Down(ctx))
		}
		all = append(all, m)
	}
	if err := l.Down(ctx); err != nil {
		return all, err
	}
	if !l.printMeasured(all) || slow != nil {
		return all, ErrOutOfBounds
	}
	return all, nil
}

func (l *Lab) benchRoad(ctx context.Context, road Road, n int) (Measured, error) {
	if l.o.Road != road {
		if err := l.SetRoad(ctx, road); err != nil {
			return Measured{}, err
		}
	}
	return l.Bench(ctx, n)
}
