package lab

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

func newLab(t *testing.T, o Options) *Lab {
	t.Helper()
	o.StateDir = filepath.Join(t.TempDir(), "lab")
	require.NoError(t, os.Mkdir(o.StateDir, 0o700))
	l, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	return l
}

func TestNoSuchRoad(t *testing.T) {
	_, err := New(Options{Road: "pigeon"})
	require.ErrorContains(t, err, `no such road "pigeon": agent or rsyslog`)
}

// A process is ours by its configuration file; one of another lab is not.
func TestOnlyOurProcessIsFoundAndStopped(t *testing.T) {
	ours, theirs := newLab(t, Options{}), newLab(t, Options{})
	ctx := t.Context()
	start := func(l *Lab) <-chan error {
		t.Helper()
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "server"), []byte("read line\n"), 0o600))
		// A bash that calls itself kokkuri runs a script called server, and waits there for its input.
		cmd := &exec.Cmd{Path: "/bin/bash", Args: append([]string{"kokkuri"}, l.Server().command()...), Dir: dir}
		input, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		t.Cleanup(func() { _ = input.Close() })
		return ended
	}
	oursEnded, theirsEnded := start(ours), start(theirs)
	require.NoError(t, wait(ctx, 5*time.Second, func() (bool, error) {
		mine, err := ours.Server().PIDs()
		return len(mine) == 1, err
	}))
	node, err := ours.Node().PIDs()
	require.NoError(t, err)
	assert.Empty(t, node)

	require.NoError(t, ours.Server().Stop(ctx))
	require.NoError(t, ours.Server().Stop(ctx), "none is fine")
	require.Error(t, <-oursEnded)
	select {
	case err := <-theirsEnded:
		t.Fatalf("the other lab's process was ended: %v", err)
	default:
	}
	require.NoError(t, theirs.Server().Kill(ctx))
	require.Error(t, <-theirsEnded)
}

func TestProcessThatEndsAtOnce(t *testing.T) {
	l := newLab(t, Options{Bin: t.TempDir()})
	ready := func(context.Context) error { return errors.New("never") }
	err := l.Server().Start(t.Context(), ready)
	require.ErrorContains(t, err, "make build makes it")

	require.NoError(t, os.WriteFile(filepath.Join(l.o.Bin, "kokkuri"), []byte("#!/bin/sh\necho no port left\nexit 1\n"), 0o700))
	err = l.Server().Start(t.Context(), ready)
	require.ErrorContains(t, err, "kokkuri server ended: exit status 1")
	require.ErrorContains(t, err, "no port left")
}

func TestConfigurationIsValid(t *testing.T) {
	for _, road := range []Road{RoadAgent, RoadRsyslog} {
		l := newLab(t, Options{Road: road})
		load := func(text string) *config.Loaded {
			t.Helper()
			path := filepath.Join(t.TempDir(), "kokkuri.yaml")
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			c, err := config.Load(config.Options{Path: path})
			require.NoError(t, err)
			return c
		}
		c := load(l.serverConfig("kk1_secret"))
		assert.Equal(t, netip.MustParseAddrPort("198.51.100.2:12666"), c.Server.Bus.Listen)
		assert.Equal(t, nodeAddrs(), c.Honeypot.Advertise)
		assert.Equal(t, "kk1_secret", c.Honeypot.Token.Reveal())
		a := load(l.AgentConfig())
		assert.Equal(t, HostName, a.Agent.Name)
		assert.Len(t, a.Agent.Files, map[Road]int{RoadAgent: 1, RoadRsyslog: 0}[road])
	}
}

func TestSources(t *testing.T) {
	assert.Equal(t, "203.0.113.66/32", Prefix(AttackerAddr()).String())
	assert.Equal(t, "2001:db8:1:66::/64", Prefix(AttackerAddr6()).String())
	for _, m := range []spec{specWeb(), specAttacker(), specUser()} {
		for _, at := range m.at {
			assert.True(t, at.net.v4.Contains(at.v4), m.name)
			assert.True(t, at.net.v6.Contains(at.v6), m.name)
		}
	}
}

func TestLegOf(t *testing.T) {
	var samples []time.Duration
	for i := range 200 {
		samples = append(samples, time.Duration(200-i)*time.Millisecond)
	}
	assert.Equal(t, Leg{Name: "x", Median: 100, P99: 198, Max: 200}, legOf("x", samples))
	assert.Equal(t, Leg{Name: "none"}, legOf("none", nil))
}

func TestBenchIsHeldAgainstItsBounds(t *testing.T) {
	var out bytes.Buffer
	l := newLab(t, Options{Out: &out})
	fast := Measured{Road: RoadAgent, Offences: 1, Legs: make([]Leg, legCount), AgentMemory: 20 << 20}
	assert.True(t, l.printMeasured([]Measured{fast}))
	slow := fast
	slow.Legs = append([]Leg{}, fast.Legs...)
	slow.Legs[legTotal].P99 = boundP99 + 1
	assert.False(t, l.printMeasured([]Measured{fast, slow}))
	fat := fast
	fat.AgentMemory = boundMemory + 1
	assert.False(t, l.printMeasured([]Measured{fat}))
	assert.Contains(t, out.String(), "NOT within")
}

func TestStepsOfAnAttack(t *testing.T) {
	start := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	a := &attack{
		l: newLab(t, Options{}), logged: at(0), firstByte: at(500), loginAt: at(800), shellAt: at(900), commandsAt: at(950), uploadAt: at(990),
		offence:  event.Offence{EventAt: at(1), FiredAt: at(2), LeasedAt: at(3)},
		redirect: event.Redirect{AppliedAt: at(4)},
	}
	a.steps()
	require.Len(t, a.report.Steps, 10)
	assert.Empty(t, a.report.Problems)
	assert.Equal(t, Step{Name: "redirect_active", At: at(4), Since: 4}, a.report.Steps[4])

	a.report = Report{}
	a.offence.LeasedAt = time.Time{}
	a.firstByte = at(2)
	a.steps()
	assert.Len(t, a.report.Problems, 2, "a step without a time, and one before its predecessor: %q", a.report.Problems)
}

func TestProgressShowsTheBuildersOwnLines(t *testing.T) {
	var out bytes.Buffer
	p := &lineProgress{l: newLab(t, Options{Out: &out})}
	for _, part := range []string{"Step 1/2 : FR", "OM x\nGet:1 http://deb", ".debian.org\nimage kokkuri/x: building\n"} {
		n, err := p.Write([]byte(part))
		require.NoError(t, err)
		assert.Equal(t, len(part), n)
	}
	assert.Equal(t, []string{"Step 1/2 : FROM x", "image kokkuri/x: building"}, strings.Split(strings.ReplaceAll(strings.TrimSpace(out.String()), "\n      ", "\n"), "\n"))
}

func TestStateRemembersTheRoad(t *testing.T) {
	l := newLab(t, Options{})
	saved, err := l.loadState()
	require.NoError(t, err)
	require.Nil(t, saved)
	require.NoError(t, l.saveState())
	require.NoError(t, l.saveState())
	l.o.Road = RoadRsyslog
	require.ErrorContains(t, l.saveState(), "the lab is up with the road agent: `kokkuri lab down` first")
}
