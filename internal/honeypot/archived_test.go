package honeypot_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
)

// What an attacker changed is there on its next visit, also after the node was started anew; when its time is over it
// is evidence that the server has, and the pot is gone.
func TestWorldLastsAndIsArchived(t *testing.T) {
	f := newFixture(t)
	f.opts.KeepPots = 0
	_, stop := f.run(t)
	l := f.grant(t, "203.0.113.66/32")
	_, err := f.shell(t.Context(), l.Endpoint, `mkdir -p /var/tmp/.m && printf '#!/bin/sh\nmine\n' >/var/tmp/.m/x && chmod 755 /var/tmp/.m/x; echo '* * * * * root x' >>/etc/crontab; rm -f /etc/motd; ln -s /etc/shadow /root/s`)
	require.NoError(t, err)
	stop()
	_, _ = f.run(t)
	out, err := f.shell(t.Context(), l.Endpoint, "cat /var/tmp/.m/x; tail -1 /etc/crontab; ls /etc/motd 2>&1; readlink /root/s")
	require.NoError(t, err)
	assert.Contains(t, out, "mine\n* * * * * root x\n")
	assert.Contains(t, out, "No such file")
	assert.Contains(t, out, "/etc/shadow")

	f.release(t, l)
	var s event.Session
	var left []event.Evidence
	require.Eventually(t, func() bool {
		for _, one := range f.bus.ended() {
			if all := f.bus.left(one.ID); slices.ContainsFunc(all, func(e event.Evidence) bool { return e.Archive != nil }) {
				s, left = one, all
				return true
			}
		}
		return false
	}, 60*time.Second, 20*time.Millisecond)
	assert.Equal(t, event.ServicePot, s.Service)
	assert.Equal(t, record.PotGone, s.Reason)
	assert.Equal(t, l.Attacker, s.Attacker)
	changes := make(map[string]event.Difference)
	var summary event.Archive
	for _, e := range left {
		switch {
		case e.Change != nil:
			changes[string(e.Change.Path)] = *e.Change
		case e.Archive != nil:
			summary = *e.Archive
		}
	}
	assert.Empty(t, summary.Truncated)
	assert.Equal(t, s.PotID, summary.Pot)
	x := changes["/var/tmp/.m/x"]
	assert.Equal(t, "added", x.What)
	assert.Equal(t, uint32(0o755), x.Mode)
	assert.Equal(t, "changed", changes["/etc/crontab"].What)
	assert.Equal(t, event.Bytes("/etc/shadow"), changes["/root/s"].Target)
	assert.NotContains(t, changes, "/usr/bin/ls")
	fetch := func(sum string) string {
		reply := f.bus.serveEvidence(t.Context(), event.EvidenceRequest{SHA256: sum})
		require.Empty(t, reply.Error)
		return string(reply.Data)
	}
	require.NotNil(t, x.File)
	assert.Equal(t, "#!/bin/sh\nmine\n", fetch(x.File.SHA256))
	lines := strings.Split(strings.TrimSpace(fetch(summary.SHA256)), "\n")
	assert.Len(t, lines, summary.Changes)
	for _, line := range lines {
		require.NoError(t, json.Unmarshal([]byte(line), new(event.Difference)))
	}
	require.Eventually(t, func() bool {
		out, err := exec.Command("docker", "ps", "-aq", "--filter", "label=kokkuri.node="+f.opts.Name).CombinedOutput()
		return assert.NoError(t, err) && len(out) == 0
	}, time.Minute, 50*time.Millisecond)
}
