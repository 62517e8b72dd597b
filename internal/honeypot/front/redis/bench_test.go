package redis_test

import (
	"encoding/csv"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
)

// BenchmarkFront measures redis-benchmark straight and through the front, in turns.
func BenchmarkFront(b *testing.B) {
	straight, s := server(b), open(b, server(b))
	letIn(b, s)
	for _, pipeline := range []string{"1", "16"} {
		b.Run("pipeline="+pipeline, func(b *testing.B) {
			fronttest.Compare(b, pipeline == "1", fronttest.Server{Address: straight, Password: own, Site: s, Right: right},
				func(address, password string) (perSecond, each float64) {
					return measure(b, address, password, pipeline)
				})
		})
	}
}

// measure returns how many requests a second there were, and how long one took at the median, in milliseconds.
func measure(b *testing.B, address, password, pipeline string) (rate, median float64) {
	b.Helper()
	host, port, err := net.SplitHostPort(address)
	require.NoError(b, err)
	out, err := exec.CommandContext(b.Context(), "redis-benchmark", "-h", host, "-p", port, "-a", password, "--csv",
		"-n", "100000", "-c", "20", "-P", pipeline, "-d", "100", "-t", "set,get").Output()
	require.NoError(b, err)
	// "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms",…
	rows, err := csv.NewReader(strings.NewReader(string(out))).ReadAll()
	require.NoError(b, err)
	require.Len(b, rows, 3)
	for _, row := range rows[1:] {
		perSecond, err := strconv.ParseFloat(row[1], 64)
		require.NoError(b, err)
		half, err := strconv.ParseFloat(row[4], 64)
		require.NoError(b, err)
		rate, median = rate+perSecond/2, median+half/2
	}
	return rate, median
}
