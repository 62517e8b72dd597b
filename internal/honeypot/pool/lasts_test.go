package pool_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// What an attacker changed is there on its next visit, after a real restart of the engine, whether that kills pots or
// not; what runs in a pot goes on where the engine lets it.
func TestWorldLastsWhenTheEngineRestarts(t *testing.T) {
	for _, live := range []bool{true, false} {
		t.Run(fmt.Sprintf("live-restore=%v", live), func(t *testing.T) {
			daemon := pottest.NewDockerd(t, live)
			f := &fixture{node: pottest.Name(t, "pool"), file: filepath.Join(t.TempDir(), "pots.json")}
			var err error
			f.engine, err = engine.New(engine.Options{Host: daemon.Host(), Node: f.node})
			require.NoError(t, err)
			t.Cleanup(func() {
				pottest.RemovePots(t, f.engine)
				assert.NoError(t, f.engine.Close())
			})
			f.net, _ = pottest.Net(t)
			p, _ := f.pots(t, func(o *pool.PotsOptions) {
				o.Image = func(context.Context) (string, error) { return pottest.SmallImage, nil }
			})
			s := enter(t, p, 1)
			id, pid := s.Pot().ID, s.PID()
			s.Close()
			in := func(script string) string {
				out, err := exec.Command("docker", "--host", daemon.Host(), "exec", id, "sh", "-c", script).CombinedOutput()
				require.NoError(t, err, "%s", out)
				return string(out)
			}
			in("busybox mkdir /root; echo treasure >/root/found; busybox rm /etc/motd; echo mallory:x:0:0::/:/bin/sh >>/etc/passwd")
			daemon.Restart(t)
			require.Eventually(t, func() bool { return len(p.Findings()) == 0 }, time.Minute, 10*time.Millisecond)
			again := enter(t, p, 1)
			defer again.Close()
			assert.Equal(t, id, again.Pot().ID)
			assert.Equal(t, live, pid == again.PID(), "what runs goes on only with live-restore")
			assert.Equal(t, "treasure\n", in("busybox cat /root/found; busybox ls /etc/motd 2>/dev/null; true"))
			assert.Contains(t, in("busybox cat /etc/passwd"), "mallory")
		})
	}
}
