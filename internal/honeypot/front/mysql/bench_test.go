package mysql_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkFront measures mariadb-slap straight and through the front, in turns.
func BenchmarkFront(b *testing.B) {
	address := server(b)
	s := open(b, address)
	letIn(b, s)
	const queries = 2_000
	for _, clients := range []int{1, 20} {
		b.Run("clients="+strconv.Itoa(clients), func(b *testing.B) {
			var ratios, added []float64
			for b.Loop() {
				straight, through := slap(b, address, own, clients, queries), slap(b, s.Address, right, clients, queries)
				ratios = append(ratios, straight/through)
				added = append(added, (through-straight)/queries*float64(clients)*1000)
			}
			slices.Sort(ratios)
			slices.Sort(added)
			ratio, ms := ratios[len(ratios)/2], added[len(added)/2]
			b.ReportMetric(ratio, "of-straight")
			b.ReportMetric(ms, "added-ms")
			if ratio < 0.5 {
				b.Errorf("%.2f of the throughput; the bound is 0.5", ratio)
			}
			if clients == 1 && ms > 0.5 {
				b.Errorf("%.3f ms more for a query; the bound is 0.5", ms)
			}
		})
	}
}

// slap returns how many seconds the queries took.
func slap(b *testing.B, address, password string, clients, queries int) float64 {
	b.Helper()
	out, err := run(b, "mariadb-slap", address, "root", password, "", "--create-schema=load", "--csv", "--concurrency="+strconv.Itoa(clients),
		"--number-of-queries="+strconv.Itoa(queries), "--auto-generate-sql", "--auto-generate-sql-load-type=mixed", "--auto-generate-sql-write-number=100")
	require.NoError(b, err)
	// ,mixed,AVERAGE,MIN,MAX,CLIENTS,QUERIES of each
	seconds, err := strconv.ParseFloat(strings.Split(out, ",")[2], 64)
	require.NoError(b, err, out)
	return seconds
}
