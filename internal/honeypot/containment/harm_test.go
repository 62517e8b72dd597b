package containment_test

import (
	"context"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/pottest"
)

// during runs a command in one pot, and meanwhile looks at the node and at another pot until enough says so.
func during(t *testing.T, a, b *pot, command string, enough func() bool) {
	t.Helper()
	b.isWell(t)
	before := useOf(t)
	stop := a.begin(t, command)
	defer stop()
	for deadline := time.Now().Add(patience); ; {
		b.isWell(t)
		before.holds(t)
		if enough() {
			return
		}
		require.True(t, time.Now().Before(deadline), "the attack does not get going, so that this test can't fail")
	}
}

// processes counts a pot's processes, from outside.
func (p *pot) processes() int {
	n, _, _ := engine.Processes(p.pid)
	return n
}

func TestForkBombHarmsNobody(t *testing.T) {
	w := newWard(t)
	a, b := w.start(t, 0), w.start(t, 1)
	during(t, a, b, `bomb() { bomb | bomb & }; bomb; sleep 100`, func() bool { return a.processes() >= 120 })
	assert.LessOrEqual(t, a.processes(), 128)
}

func TestMemoryHogHarmsNobody(t *testing.T) {
	w := newWard(t)
	a, b := w.start(t, 0), w.start(t, 1)
	a.say(t, "rm -f /tmp/got")
	ended := func() bool { return strings.Contains(a.w.file(t, a, "/tmp/got"), "137") }
	during(t, a, b, `python3 -c 'x = bytearray(4 << 30)
for i in range(0, len(x), 4096): x[i] = 1'; echo $? > /tmp/got; dd if=/dev/zero of=/dev/shm/fill bs=1M; echo 137 >> /tmp/got; sleep 100`, ended)
	used, err := engine.Memory(a.pid)
	require.NoError(t, err)
	assert.LessOrEqual(t, used, int64(256<<20))
}

func TestLogFloodHarmsNobody(t *testing.T) {
	w := newWard(t)
	a, b := w.start(t, 0), w.start(t, 1)
	logged := func() int {
		n, _ := strconv.Atoi(strings.TrimSpace(pottest.Run(t, "stat", "-c", "%s", w.upper(t, a)+"/var/log/syslog")))
		return n
	}
	during(t, a, b, `yes $(printf %0900d 0) | logger & yes > /proc/1/fd/1 & yes > /dev/console & yes | tee /proc/1/fd/2 >/dev/null; wait`, func() bool { return logged() > 8<<20 })
	in := pottest.Run(t, "docker", "inspect", "-f", "{{.HostConfig.LogConfig.Type}} {{.LogPath}}", a.id)
	assert.Equal(t, "none ", strings.TrimSuffix(in, "\n"), "nothing that a pot prints is kept by the engine")
}

// Ten thousand connections of a pot: to itself, and to the world, which the sinkhole plays.
func TestTenThousandConnectionsHarmNobody(t *testing.T) {
	w := newWard(t)
	a, b := w.start(t, 0), w.start(t, 1)
	s := w.sinkhole(t, 2)
	const script = `import os, socket, sys, time
l = socket.socket(); l.bind(("127.0.0.1", 7000)); l.listen(4096)
for i in range(6):
  if os.fork() == 0:
    held = []
    while len(held) < 1700:
      c = socket.socket(); c.connect(("127.0.0.1", 7000)); held.append(c); s, _ = l.accept(); held.append(s)
      x = socket.socket(); x.setblocking(False)
      try: x.connect(("198.18.%d.%d" % (i, len(held) % 250), 80))
      except BlockingIOError: pass
      held.append(x)
    open("/tmp/held.%d" % i, "w").write(str(len(held))); time.sleep(1000)
time.sleep(1000)`
	a.say(t, "cat > /root/many.py <<'END'\n"+script+"\nEND")
	held := func() bool {
		n := 0
		for i := range 6 {
			one, _ := strconv.Atoi(w.file(t, a, "/tmp/held."+strconv.Itoa(i)))
			n += one
		}
		return n >= 10000
	}
	during(t, a, b, "ulimit -n 4096; python3 /root/many.py", held)
	counts, open := s.Counts()
	t.Logf("%+v, %d open", counts, open)
	assert.Positive(t, counts.OverPot, "more than a pot may have")
	assert.LessOrEqual(t, open, 128)
}

func TestKillingEveryProcessHarmsNobody(t *testing.T) {
	w := newWard(t)
	a, b := w.start(t, 0), w.start(t, 1)
	b.isWell(t)
	for range 3 {
		client, err := a.login(t.Context())
		require.NoError(t, err)
		program, err := client.Program()
		require.NoError(t, err)
		program.Ask("exec", false, ssh.Marshal(struct{ Command string }{"kill -9 -1; sleep 100"}))
		client.Wait() // the server that the connection is to is killed
		client.Close()
		b.isWell(t)
		require.True(t, engine.Runs(a.id, a.pid), "its first process stays")
	}
	a.isWell(t) // its server is started again
}

// upper is the folder of what was changed in a pot.
func (w *ward) upper(t *testing.T, p *pot) string {
	t.Helper()
	upper, _, err := w.engine.Layers(t.Context(), p.id)
	require.NoError(t, err)
	return upper
}

// file reads a file of a pot from outside; it is empty where there is none.
func (w *ward) file(t *testing.T, p *pot, path string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/root" + path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// answers reports whether something listens on a pot's port.
func (w *ward) answers(ctx context.Context, at netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := w.net.Dial(ctx, at)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
