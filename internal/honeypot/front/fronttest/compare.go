package fronttest

import (
	"slices"
	"testing"
)

// What a front may cost.
const (
	leastOfStraight = 0.5
	mostAdded       = 0.5 // milliseconds
)

// Compare measures a service straight and through its front, in turns: what share of the throughput is left, and how many milliseconds a
// request takes more. It fails where the medians are not within bounds; of what is added only where one request waits for another.
func Compare(b *testing.B, alone bool, measure func() (ofStraight, added float64)) {
	b.Helper()
	var ratios, adds []float64
	for b.Loop() {
		ratio, ms := measure()
		ratios, adds = append(ratios, ratio), append(adds, ms)
	}
	slices.Sort(ratios)
	slices.Sort(adds)
	ratio, ms := ratios[len(ratios)/2], adds[len(adds)/2]
	b.ReportMetric(ratio, "of-straight")
	b.ReportMetric(ms, "added-ms")
	if ratio < leastOfStraight {
		b.Errorf("%.2f of the throughput; the bound is %v", ratio, leastOfStraight)
	}
	if alone && ms > mostAdded {
		b.Errorf("%.3f ms more at the median; the bound is %v", ms, mostAdded)
	}
}
