package ssh_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// boundSCP is how much of the straight throughput is left through the front, in per cent, at least.
const boundSCP = 70

// BenchmarkSCP copies a file of 256 MiB with OpenSSH's scp straight to an sshd, and through the front to
// the same one.
func BenchmarkSCP(b *testing.B) {
	b.Run("builtin", func(b *testing.B) { benchmarkSCP(b, builtin) })
	b.Run("door", func(b *testing.B) { benchmarkSCP(b, openSSH) })
}

// BenchmarkDoorSoak has ten thousand connections that make no sense at a door, which has what it had afterwards.
func BenchmarkDoorSoak(b *testing.B) {
	s := newSite(b, openSSH)
	s.dialUntilUp(b)
	for b.Loop() {
		s.forget(b)
		s.garbage(b, 10_000)
	}
}

func benchmarkSCP(b *testing.B, via transport) {
	b.Helper()
	key := filepath.Join(b.TempDir(), "id")
	require.NoError(b, exec.CommandContext(b.Context(), "ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", key).Run())
	s := newSite(b, via)
	s.letIn(b)
	public, err := os.ReadFile(key + ".pub")
	require.NoError(b, err)
	require.NoError(b, os.WriteFile(s.authorized, public, 0o600))
	file := filepath.Join(b.TempDir(), "file")
	const size = 256 << 20
	require.NoError(b, os.WriteFile(file, make([]byte, size), 0o600))
	target := filepath.Join(b.TempDir(), "target")
	copyTo := func(to netip.AddrPort, auth []string, options ...string) time.Duration {
		args := slices.Concat(auth, []string{"scp", "-q", "-P", strconv.Itoa(int(to.Port()))},
			[]string{"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "User=" + account},
			options, []string{file, "127.0.0.1:" + target})
		began := time.Now()
		out, err := exec.CommandContext(b.Context(), args[0], args[1:]...).CombinedOutput()
		require.NoError(b, err, "%s", out)
		return time.Since(began)
	}
	var ratios, fronts, straights []float64
	for b.Loop() {
		straight := copyTo(s.Straight, nil, "-i", key)
		through := copyTo(s.Addr, []string{"sshpass", "-p", password}, "-o", "PubkeyAuthentication=no")
		straights = append(straights, size/(1<<20)/straight.Seconds())
		fronts = append(fronts, size/(1<<20)/through.Seconds())
		ratios = append(ratios, straight.Seconds()/through.Seconds())
	}
	b.ReportMetric(median(straights), "straight-MiB/s")
	b.ReportMetric(median(fronts), "front-MiB/s")
	if percent := 100 * median(ratios); percent < boundSCP {
		b.Errorf("NOT within: %.1f %% of the straight throughput, at least %d %% are wanted", percent, boundSCP)
	}
	b.ReportMetric(100*median(ratios), "percent-of-straight")
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
