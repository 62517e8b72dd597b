package fronttest

import (
	"net"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/front/relay"
)

// What a front may cost.
const (
	leastOfStraight = 0.5
	mostAdded       = 0.5 // milliseconds
)

// Load measures a server at an address: requests a second, and milliseconds that one takes.
type Load func(address, password string) (perSecond, each float64)

// Server is one that is measured straight, and the site whose pot it is.
type Server struct {
	Address, Password string
	Site              *Site
	Right             string // password that the site accepts
}

// Compare measures a server straight, through its front, and through a relay that copies without a look, in turns: what shares of the
// throughput are left, and how many milliseconds a request takes more. It fails where the medians are not within bounds; of what is
// added only where one request waits for another. The relay tells what the machine leaves at best where the load, the server and
// whoever stands between them share its processors.
func Compare(b *testing.B, alone bool, server Server, load Load) {
	b.Helper()
	copies := copying(b, server.Address)
	var throughs, copied, added []float64
	for b.Loop() {
		rate, each := load(server.Address, server.Password)
		through, later := load(server.Site.Address, server.Right)
		bare, _ := load(copies, server.Password)
		throughs, copied, added = append(throughs, through/rate), append(copied, bare/rate), append(added, later-each)
	}
	ratio, bare, ms := median(throughs), median(copied), median(added)
	b.ReportMetric(ratio, "of-straight")
	b.ReportMetric(bare, "of-straight-copied")
	b.ReportMetric(ms, "added-ms")
	if ratio < leastOfStraight {
		b.Errorf("%.2f of the throughput; the bound is %v; %.2f where bytes are only copied", ratio, leastOfStraight, bare)
	}
	if alone && ms > mostAdded {
		b.Errorf("%.3f ms more at the median; the bound is %v", ms, mostAdded)
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// copying is a relay to a server that looks at nothing and keeps nothing.
func copying(b *testing.B, server string) (address string) {
	b.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(b.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(b, err)
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				var d net.Dialer
				to, err := d.DialContext(b.Context(), "tcp4", server)
				if err != nil {
					_ = c.Close()
					return
				}
				relay.Run(b.Context(), relay.Options{Attacker: c, Pot: to, Pass: func(_ relay.Direction, p []byte) []byte { return p }})
			}()
		}
	}()
	return l.Addr().String()
}
