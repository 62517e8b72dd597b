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
			fronttest.Compare(b, clients == 1, func() (ofStraight, added float64) {
				straight, through := slap(b, address, own, clients, queries), slap(b, s.Address, right, clients, queries)
				return straight / through, (through - straight) / queries * float64(clients) * 1000
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
