package containment_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// budget is what a pot may write here.
const budget = 32 << 20

func attacker(n int) event.PotKey {
	return event.PotKey{Attacker: netip.MustParsePrefix(fmt.Sprintf("203.0.113.%d/32", n)), Host: "web"}
}

func newPots(t *testing.T) (*pool.Pots, *engine.Docker) {
	t.Helper()
	node := pottest.Name(t, "kkd")
	d := pottest.Engine(t, node)
	n, _ := pottest.Net(t)
	p := pool.NewPots(pool.PotsOptions{
		Node: node, Engine: d, Disk: d, MaxDisk: budget, Network: n, Capacity: n.Capacity(),
		Image:  func(context.Context) (string, error) { return pottest.Image, nil },
		Wanted: func(event.PotKey) bool { return true },
	})
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { cancel(); run.Wait() })
	return p, d
}

func enter(t *testing.T, p *pool.Pots, n int) *pool.Stay {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := p.Enter(ctx, attacker(n))
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// Ways to fill a disk, and how much is written at least before the pot ends.
func TestDiskFillersAreEnded(t *testing.T) {
	p, d := newPots(t)
	good := enter(t, p, 1)
	for i, c := range []struct{ name, script string }{
		{"one file", "cat /dev/zero > /root/fill"},
		{"many files", "mkdir /var/tmp/f; i=0; while :; do head -c 1M /dev/zero > /var/tmp/f/$i; i=$((i+1)); done"},
		{"set aside", "fallocate -l 200M /root/fill; sleep 100"},
		{"deleted", "exec 3>/root/fill; rm /root/fill; head -c 64M /dev/zero >&3; sleep 100"},
		{"small files", "python3 -c '\nimport os\nn = 0\nwhile True:\n  if n % 1000 == 0: os.makedirs(f\"/root/{n}\"); os.chdir(f\"/root/{n}\")\n  open(str(n), \"w\").close(); n += 1'"},
		{"deep down", "python3 -c '\nimport os\nos.chdir(\"/root\")\nfor i in range(3000):\n  os.mkdir(\"d\" * 200); os.chdir(\"d\" * 200)\nf = open(\"fill\", \"wb\")\nwhile True: f.write(bytes(1 << 20))'"},
		{"descriptors", `ulimit -n 4096; exec python3 -c '
import os, time
for i in range(40):
  if os.fork() == 0:
    held = [os.open("/dev/null", 0) for _ in range(4000)]; time.sleep(1000)
time.sleep(1000)'`},
		{"what the engine mounts", "cat /dev/zero > /etc/hosts"},
		{"the log", "yes $(printf %0900d 0) | logger & yes $(printf %0900d 0) | logger -p auth.info"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := enter(t, p, 10+i)
			pottest.Run(t, "docker", "exec", "-d", bad.Pot().ID, "sh", "-c", c.script)
			require.Eventually(t, func() bool {
				in, found, err := d.Inspect(t.Context(), bad.Pot().ID)
				return err == nil && found && in.State == engine.Stopped
			}, patience, 20*time.Millisecond, "it still runs")
			require.Eventually(t, func() bool {
				_, err := p.Enter(t.Context(), attacker(10+i))
				return assert.ObjectsAreEqual(pool.ErrDisk, err)
			}, patience, 20*time.Millisecond, "it ended for another reason")
			out, err := pottest.InPot(t, good.Pot().ID, "echo well")
			require.NoError(t, err)
			assert.Equal(t, "well\n", out)
		})
	}
}

// From when a pot has written more than it may until it writes no more, two seconds pass at most; the files say when.
func TestWritingEndsWithinTwoSeconds(t *testing.T) {
	p, d := newPots(t)
	bad := enter(t, p, 1)
	upper, _, err := d.Layers(t.Context(), bad.Pot().ID)
	require.NoError(t, err)
	before, _, err := engine.Written(bad.Pot().ID, bad.PID(), engine.Amount{Bytes: budget, Files: 1 << 20})
	require.NoError(t, err)
	pottest.Run(t, "docker", "exec", "-d", bad.Pot().ID, "sh", "-c",
		"mkdir /var/tmp/f; i=1000; while :; do head -c 1M /dev/zero > /var/tmp/f/$i; i=$((i+1)); sleep 0.02; done")
	require.Eventually(t, func() bool {
		in, found, err := d.Inspect(t.Context(), bad.Pot().ID)
		return err == nil && found && in.State == engine.Stopped
	}, patience, 20*time.Millisecond)
	files, err := os.ReadDir(filepath.Join(upper, "var/tmp/f"))
	require.NoError(t, err)
	most := int(budget-before.Bytes) >> 20 // that fit
	require.Greater(t, len(files), most, "it ended before it had written too much")
	at := func(i int) time.Time {
		info, err := files[i].Info()
		require.NoError(t, err)
		return info.ModTime()
	}
	over := at(len(files) - 1).Sub(at(most - 1))
	t.Logf("wrote %d MiB too much in %s", len(files)-most, over)
	assert.Less(t, over, 2*time.Second)
	assert.Contains(t, strings.Join(failures(p), "\n"), pool.ErrDisk.Error())
}

func failures(p *pool.Pots) (out []string) {
	for _, f := range p.Findings() {
		out = append(out, f.Text)
	}
	return out
}
