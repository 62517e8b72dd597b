package pool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

const (
	refillEvery = 5 * time.Second
	refillRetry = time.Second

	// genericName is what a machine is called that nobody has named yet.
	genericName = "localhost"
)

// keepWarm keeps pots that wait, started and frozen, as many as there shall be, until ctx is done.
func (p *Pots) keepWarm(ctx context.Context) {
	if p.o.Warm <= 0 || p.awaitSync(ctx) != nil && ctx.Err() != nil {
		return
	}
	tick := time.NewTicker(refillEvery)
	defer tick.Stop()
	for {
		err := p.refill(ctx)
		wait := tick.C
		var retry *time.Timer
		if err != nil && ctx.Err() == nil {
			retry = time.NewTimer(refillRetry)
			wait = retry.C
		}
		select {
		case <-ctx.Done():
			return
		case <-wait:
		case <-p.thirsty:
		}
		if retry != nil {
			retry.Stop()
		}
	}
}

// refill makes one pot after the other while some are missing, there is room for them, and the machine
// has the memory.
func (p *Pots) refill(ctx context.Context) error {
	p.dropOld(ctx)
	for ctx.Err() == nil {
		short := p.memoryShort()
		p.mu.Lock()
		p.short = short
		missing := p.engine == nil && len(p.spare) < p.o.Warm && p.heldLocked() < p.o.MaxPots
		var index int
		if missing && !short {
			index = p.freeIndexLocked()
			p.making[index], p.brewing = true, make(chan struct{})
		}
		p.mu.Unlock()
		if !missing || short {
			return nil
		}
		t, err := p.makeWarm(ctx, index)
		p.mu.Lock()
		delete(p.making, index)
		switch {
		case err == nil:
			p.spare = append(p.spare, t)
		case ctx.Err() == nil:
			p.counts.Failed++
			p.log.WarnContext(ctx, "no pot to wait for an attacker", "error", err)
		}
		close(p.brewing)
		p.brewing = nil
		p.mu.Unlock()
		if err != nil {
			if t.id != "" {
				_ = p.o.Engine.Remove(context.WithoutCancel(ctx), t.id)
			}
			return err
		}
		p.o.Changed()
	}
	return nil
}

// dropOld gives up one pot that waits and is of another image than those that are made to wait now.
func (p *Pots) dropOld(ctx context.Context) {
	image, err := p.o.Image(ctx)
	if err != nil {
		return
	}
	p.mu.Lock()
	var job func(context.Context)
	if i := slices.IndexFunc(p.spare, func(t *pot) bool { return t.image != image }); i >= 0 && len(p.spare) >= p.o.Warm {
		job = p.dropSpareLocked(i)
	}
	p.mu.Unlock()
	p.launch(ctx, job)
}

// makeWarm makes a pot that belongs to nobody yet.
func (p *Pots) makeWarm(ctx context.Context, index int) (*pot, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	t := &pot{name: p.newName(), index: index, created: time.Now()}
	image, err := p.o.Image(ctx)
	if err != nil {
		return t, err
	}
	t.id, err = p.o.Engine.Create(ctx, engine.Spec{
		Name: t.name, Image: image, Hostname: genericName, Index: index, Resolver: p.o.Network.Gateway(), Limits: p.o.Limits,
		Guised: p.o.Guise != nil,
	})
	if err != nil {
		return t, err
	}
	if err := p.o.Engine.Start(ctx, t.id); err != nil {
		return t, err
	}
	c, found, err := p.o.Engine.Inspect(ctx, t.id)
	if err == nil && (!found || c.State != engine.Running) {
		err = fmt.Errorf("pot %s ended right after its start", t.name)
	}
	if err != nil {
		return t, err
	}
	t.image, t.services, t.starts, t.logins, t.created, t.guised = c.Image, c.Services, c.Starts, c.Logins, c.Created, c.Guised
	t.pid, t.run = c.PID, c.Run
	if err := p.guise(ctx, t, c); err != nil {
		return t, err
	}
	if err := p.o.Network.Wire(egress.Port{Pot: t.name, Run: c.Run, Index: index, PID: c.PID}); err != nil {
		return t, err
	}
	for {
		err := p.answering(ctx, t)
		if err == nil {
			break
		}
		timer := time.NewTimer(readyPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return t, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
	if err := p.o.Engine.Freeze(ctx, t.id, t.pid); err != nil && !errors.Is(err, engine.ErrNoFreezer) {
		return t, err
	}
	t.frozen = true
	return t, nil
}

// takeWarmLocked gives a pot that waits to an attacker, for good.
func (p *Pots) takeWarmLocked(k event.PotKey) *pot {
	i := slices.IndexFunc(p.spare, func(t *pot) bool { return p.o.Fits(k, t.image) })
	if i < 0 {
		return nil
	}
	t := p.spare[i]
	p.spare = slices.Delete(p.spare, i, i+1)
	t.key, t.fresh, t.ready, t.state = k, true, true, "paused"
	select {
	case p.thirsty <- struct{}{}:
	default:
	}
	return t
}

// dropSpareLocked gives up a pot that waits, and returns the job that removes it.
func (p *Pots) dropSpareLocked(i int) func(context.Context) {
	t := p.spare[i]
	p.spare = slices.Delete(p.spare, i, i+1)
	p.making[t.index] = true // its place is taken until it is gone
	return func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		if err := p.o.Engine.Remove(ctx, t.id); err != nil {
			p.log.WarnContext(ctx, "pot that nobody had is not removed", "container", t.id, "error", err)
			return
		}
		p.note(func() { delete(p.making, t.index) })
	}
}

// spareGone forgets a pot that waited and ended; ok is false where there is none with that id.
func (p *Pots) spareGone(ctx context.Context, id string) (ok bool) {
	p.mu.Lock()
	i := slices.IndexFunc(p.spare, func(t *pot) bool { return t.id == id })
	var job func(context.Context)
	if i >= 0 {
		job = p.dropSpareLocked(i)
	}
	p.mu.Unlock()
	p.launch(ctx, job)
	return i >= 0
}

// WarmPots returns how many pots wait for attackers.
func (p *Pots) WarmPots() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.spare)
}

// Banner returns what the SSH server of the newest pot calls itself; empty where none has answered yet.
func (p *Pots) Banner() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.banner
}

// memoryShort reports whether the machine has no memory for pots that only wait.
func (p *Pots) memoryShort() bool {
	if p.o.KeepFree <= 0 {
		return false
	}
	free, err := memoryAvailable(p.o.Meminfo)
	return err == nil && free < p.o.KeepFree
}

// memoryAvailable reads how many bytes can be used without swapping (proc_meminfo(5)).
func memoryAvailable(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("look for free memory: %w", err)
	}
	defer f.Close() //nolint:errcheck // read-only
	for scan := bufio.NewScanner(f); scan.Scan(); {
		fields := strings.Fields(scan.Text())
		if len(fields) < 2 || fields[0] != "MemAvailable:" {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("look for free memory: %w", err)
		}
		return kib << 10, nil
	}
	return 0, errors.New("look for free memory: the kernel does not tell")
}
