package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/lab"
)

// forbidden is where a pot must not get to: the server, the node, the lab, the machine, the world.
func forbidden(t *testing.T) []string {
	t.Helper()
	targets := []string{
		"198.51.100.2/12666", "198.51.100.2/10514", "198.51.100.20/22", "203.0.113.10/22", "203.0.113.20/22",
		"172.17.0.1/22", "127.0.0.1/12666", "9.9.9.9/53", "169.254.169.254/80",
		"2001:db8:2::2/12666", "2001:db8:2::20/22", "2001:db8:1:10::10/22", "2620:fe::fe/53",
	}
	own, err := exec.CommandContext(t.Context(), "ip", "-oneline", "address", "show", "scope", "global").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(own)) {
		if fields := strings.Fields(line); len(fields) > 3 {
			address, _, _ := strings.Cut(fields[3], "/")
			targets = append(targets, address+"/22", address+"/12666")
		}
	}
	return targets
}

func TestPotReachesNothing(t *testing.T) {
	first, second := source(t), source(t)
	for _, from := range []lab.Login{{From: first}, {From: second}} {
		offend(t, from.From)
		deflected(t, from.From)
	}
	shell := pot(t, first)
	pot(t, second)
	neighbour := potOf(t, second).Address.String()
	require.Equal(t, "reached\n", out(t, shell, reach("127.0.0.1", "22")), "the pot's own sshd: the check can succeed")

	nowhere := func(when string) {
		t.Helper()
		before := sunk(t, first)
		targets := forbidden(t)
		var script strings.Builder
		for _, target := range append(targets, neighbour+"/22") {
			host, port, _ := strings.Cut(target, "/")
			script.WriteString("( " + reach(host, port) + " | sed 's|^|" + target + " |' ) & ")
		}
		got := out(t, shell, script.String()+"wait")
		assert.Contains(t, got, neighbour+"/22 out of reach\n", when)
		for _, target := range targets {
			host, port, _ := strings.Cut(target, "/")
			if netip.MustParseAddr(host).IsLoopback() { // its own
				assert.Contains(t, got, target+" out of reach\n", when)
				continue
			}
			// Whatever it was that answered, it was the sinkhole.
			eventually(t, "what the pot sent to "+target+" is evidence, "+when, func() (bool, error) {
				to := netip.MustParseAddrPort(net.JoinHostPort(host, port))
				return sunk(t, first)[to] > before[to], nil
			})
		}
	}
	nowhere("as it is")
	flushMachine(t)
	shell = comesToPot(t, first) // what its front needs is mended, its open connections may have been cut
	nowhere("after nft flush ruleset on the machine")
}

// sunk counts what an attacker's pots sent where, and the sinkhole took.
func sunk(t *testing.T, attacker netip.Addr) map[netip.AddrPort]int {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	all, err := the.SessionsOf(ctx, attacker)
	require.NoError(t, err)
	found := map[netip.AddrPort]int{}
	for _, s := range all {
		left, err := the.API().Evidence(ctx, s.ID)
		require.NoError(t, err)
		for _, e := range left {
			if e.Egress != nil {
				found[e.Egress.Destination]++
			}
		}
	}
	return found
}

// flushMachine flushes the machine's rules. The engine's come back when the test ends, ours by themselves.
func flushMachine(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	before := chains(t)
	t.Cleanup(func() { // last: iptables-restore makes chains that were not there
		for chain := range chains(t) {
			if !before[chain] {
				assert.NoError(t, exec.CommandContext(ctx, "nft", "delete chain "+chain).Run(), chain)
			}
		}
	})
	for _, family := range []string{"iptables", "ip6tables"} {
		saved, err := exec.CommandContext(ctx, family+"-save").Output()
		require.NoError(t, err)
		t.Cleanup(func() {
			restore := exec.CommandContext(ctx, family+"-restore")
			restore.Stdin = bytes.NewReader(saved)
			text, err := restore.CombinedOutput()
			assert.NoError(t, err, string(text))
		})
	}
	require.NoError(t, exec.CommandContext(ctx, "nft", "flush", "ruleset").Run())
}

// chains are the machine's iptables chains, each with its family and table.
func chains(t *testing.T) map[string]bool {
	t.Helper()
	text, err := exec.CommandContext(context.WithoutCancel(t.Context()), "nft", "--stateless", "list", "chains").Output()
	require.NoError(t, err)
	found, table := map[string]bool{}, ""
	for line := range strings.Lines(string(text)) {
		switch words := strings.Fields(line); {
		case len(words) > 2 && words[0] == "table":
			table = words[1] + " " + words[2]
		case len(words) > 1 && words[0] == "chain" && strings.HasPrefix(table, "ip"):
			found[table+" "+words[1]] = true
		}
	}
	return found
}

func TestForkBombAndMemoryHogHarmNothing(t *testing.T) {
	first, second := source(t), source(t)
	for _, from := range []lab.Login{{From: first}, {From: second}} {
		offend(t, from.From)
		deflected(t, from.From)
	}
	shell := pot(t, first)
	require.NoError(t, the.Attacker.Spawn(t.Context(), "true")) // the attacker's machine is alive before
	// The pot may have no process left to answer with.
	bombing, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	_, _ = shell.Run(bombing, `(bash -c 'tail /dev/zero' >/dev/null 2>&1 &)
(python3 -c 'x = []
while True: x.append(bytearray(1 << 24))' >/dev/null 2>&1 &)
(bash -c 'f() { f | f & }; f' >/dev/null 2>&1 &)`)
	cancel()
	most := lab.Busy{}
	eventually(t, "the pot takes all that it may", func() (bool, error) {
		now, err := the.BusyPot(t.Context(), potOf(t, first).ID)
		most = lab.Busy{Processes: max(most.Processes, now.Processes), Memory: max(most.Memory, now.Memory)}
		return most.Processes > 100 && most.Memory > 0.9, fmt.Errorf("%+v, %w", most, err)
	})
	// Everybody else goes on as before.
	other := pot(t, second)
	assert.Equal(t, "fine\n", out(t, other, "echo fine"))
	onRealHost(t, the.User, lab.UserAddr())
	third := source(t)
	offend(t, third)
	deflected(t, third)
	pot(t, third)
	_, err := the.API().Status(t.Context())
	require.NoError(t, err)
}
