package web_test

import (
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/fronttest"
)

// BenchmarkFront measures wrk straight and through the front, in turns.
func BenchmarkFront(b *testing.B) {
	address := server(b)
	s := open(b, address)
	for name, path := range map[string]string{"page": "/", "1MB": "/large"} {
		for _, clients := range []int{1, 20} {
			b.Run(name+"/clients="+strconv.Itoa(clients), func(b *testing.B) {
				fronttest.Compare(b, clients == 1, fronttest.Server{Address: address, Site: s},
					func(address, _ string) (perSecond, each float64) { return wrk(b, "http://"+address+path, clients) })
			})
		}
	}
}

// wrk returns requests a second and the median of their milliseconds.
func wrk(b *testing.B, url string, clients int) (perSecond, each float64) {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), "wrk", "--threads=1", "--connections="+strconv.Itoa(clients), "--duration=2s", "--latency", url).CombinedOutput()
	require.NoError(b, err, string(out))
	find := func(pattern string) []string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(string(out))
		require.NotNil(b, m, string(out))
		return m
	}
	perSecond, err = strconv.ParseFloat(find(`Requests/sec:\s+([0-9.]+)`)[1], 64)
	require.NoError(b, err)
	half := find(`50%\s+([0-9.]+)(us|ms|s)`)
	each, err = strconv.ParseFloat(half[1], 64)
	require.NoError(b, err)
	return perSecond, each * map[string]float64{"us": 0.001, "ms": 1, "s": 1000}[strings.TrimSpace(half[2])]
}
