package mysql_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
)

// BenchmarkFront measures mariadb-slap straight and through the front, in turns.
func BenchmarkFront(b *testing.B) {
	address := server(b)
	s := open(b, address)
	letIn(b, s)
	const queries = 2_000
	for _, clients := range []int{1, 20} {
		b.Run("clients="+strconv.Itoa(clients), func(b *testing.B) {
			fronttest.Compare(b, clients == 1, fronttest.Server{Address: address, Password: own, Site: s, Right: right},
				func(address, password string) (perSecond, each float64) {
					seconds := slap(b, address, password, clients, queries)
					return queries / seconds, seconds / queries * float64(clients) * 1000
				})
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
