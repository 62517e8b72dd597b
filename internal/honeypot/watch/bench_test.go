package watch_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
	"github.com/kokkuri/kokkuri/internal/honeypot/watch"
)

// What it costs to execute a program in a pot, and what the node spends and holds meanwhile: not watched, watched by
// the kernel, and polled. The pot may use two processors, so that nothing but that is measured.
func BenchmarkExec(b *testing.B) {
	for _, mode := range []watch.Mode{watch.Off, watch.EBPF, watch.Polling} {
		b.Run(string(mode), func(b *testing.B) {
			p := start(b, mode)
			pottest.Run(b, "docker", "update", "--cpus", "2", p.pot.ID)
			const script = `import os,sys,time
n = int(sys.argv[1])
t = time.perf_counter()
for i in range(n):
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
print(int((time.perf_counter() - t) * 1e9 / n))`
			before := processorTime(b)
			runs := 0
			var took float64
			for b.Loop() {
				out := pottest.Run(b, "docker", "exec", p.pot.ID, "python3", "-c", script, "500")
				ns, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
				if err != nil {
					b.Fatal(err)
				}
				took += ns
				runs++
				p.flush(b, p.pot.Key)
			}
			b.ReportMetric(took/float64(runs)/1e3, "µs/exec")
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(runs*500), "node-µs/exec")
			b.ReportMetric(float64(residentKiB(b)), "node-KiB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// processorTime is what this process has used (proc_pid_stat(5)).
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	data, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func residentKiB(b *testing.B) int {
	b.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	n, _ := strconv.Atoi(strings.Fields(rest)[0])
	return n
}
