package postgres_test

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
)

// BenchmarkFront measures pgbench's own load straight and through the front, in turns.
func BenchmarkFront(b *testing.B) {
	address := server(b, "scram-sha-256")
	_, err := bench(b, address, own, "--initialize", "--scale=1", "--quiet")
	require.NoError(b, err)
	s := open(b, address)
	letIn(b, s)
	for _, clients := range []int{1, 20} {
		for _, mode := range []string{"--builtin=tpcb-like", "--select-only"} {
			b.Run("clients="+strconv.Itoa(clients)+mode[1:], func(b *testing.B) {
				fronttest.Compare(b, clients == 1, fronttest.Server{Address: address, Password: own, Site: s, Right: right},
					func(address, password string) (perSecond, each float64) {
						out, err := bench(b, address, password, mode, "--no-vacuum", "--client="+strconv.Itoa(clients), "--time=2")
						require.NoError(b, err)
						return figure(b, out, `tps = ([0-9.]+)`), figure(b, out, `latency average = ([0-9.]+) ms`)
					})
			})
		}
	}
}

func bench(b *testing.B, address, password string, args ...string) (string, error) {
	b.Helper()
	return run(b, "pgbench", address, "postgres", password, "sslmode=disable", args...)
}

func figure(b *testing.B, out, pattern string) float64 {
	b.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(out)
	require.Len(b, m, 2, out)
	n, err := strconv.ParseFloat(m[1], 64)
	require.NoError(b, err)
	return n
}
