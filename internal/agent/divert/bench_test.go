package divert

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
)

// many are n redirects of n sources.
func many(n int) []event.Redirect {
	out := make([]event.Redirect, n)
	for i := range out {
		a := netip.AddrFrom4([4]byte{100, byte(64 + i>>16), byte(i >> 8), byte(i)})
		out[i] = redirectOf(strconv.Itoa(i), netip.PrefixFrom(a, 32).String(), node4+":20001")
	}
	return out
}

// BenchmarkPut is the fast path: one more redirect, with a thousand others in the kernel.
func BenchmarkPut(b *testing.B) {
	for _, routed := range []bool{true, false} {
		b.Run(fmt.Sprintf("forwarding before us %v", routed), func(b *testing.B) {
			w := newWorld(b)
			if routed {
				w.routed()
			}
			d, _ := w.start(w.options())
			_, err := d.Set(b.Context(), desiredOf(many(1000)...))
			require.NoError(b, err)
			settled(b, d)
			rs := many(1000 + b.N)[1000:]
			b.ResetTimer()
			for i := range rs {
				got, err := d.Put(b.Context(), rs[i:i+1])
				if err != nil || got[0].State != event.Active {
					b.Fatal(got, err)
				}
			}
		})
	}
}

// BenchmarkSet loads 100,000 redirects into an empty kernel, then compares them again.
func BenchmarkSet(b *testing.B) {
	rs := many(100_000)
	for b.Loop() {
		w := newWorld(b).routed()
		d, err := New(w.options())
		require.NoError(b, err)
		start := time.Now()
		got, err := d.Set(context.Background(), desiredOf(rs...))
		require.NoError(b, err)
		require.Len(b, got, len(rs))
		b.ReportMetric(time.Since(start).Seconds(), "s/load")
		start = time.Now()
		_, err = d.Set(context.Background(), desiredOf(rs...))
		require.NoError(b, err)
		b.ReportMetric(time.Since(start).Seconds(), "s/compare")
		d.Close()
	}
}

// settled waits until nothing waits to be cut and nothing is to be compared again.
func settled(tb testing.TB, d *Divert) {
	tb.Helper()
	eventually(tb, patience, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.waiting) > 0 || !d.ready || d.touched.Load() || d.foreign.Load() {
			return fmt.Errorf("%d wait", len(d.waiting))
		}
		return nil
	})
}
