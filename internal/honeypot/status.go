package honeypot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// imageState is what is known of the pots' image.
type imageState struct {
	services []event.Service
	checked  time.Time
}

// imageFresh is how long an image is taken to be there after it was seen.
const imageFresh = 30 * time.Second

// poke has the status told soon.
func (n *Node) poke() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// report tells the node's status, and follows the answers, until ctx is done.
func (n *Node) report(ctx context.Context, p *parts) {
	next := time.NewTimer(0)
	defer next.Stop()
	down := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
			if !down {
				next.Reset(statusSoon)
			}
			continue
		case <-n.o.Connected: // until it hears of us a server that started anew takes us for gone
		case <-next.C:
		}
		err := n.tell(ctx, p)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !down {
				n.log.WarnContext(ctx, "the server does not take the node's status", "error", err)
			}
			next.Reset(statusRetry)
		default:
			if down {
				n.log.InfoContext(ctx, "the server takes the node's status again")
			}
			next.Reset(statusEvery)
		}
		down = err != nil
	}
}

func (n *Node) tell(ctx context.Context, p *parts) error {
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	asked := time.Now()
	desired, err := n.o.Bus.Status(ctx, n.status(p))
	if err != nil {
		return fmt.Errorf("tell the node's status: %w", err)
	}
	p.told.Store(&desired.Own)
	p.book.Apply(desired.Leases, asked)
	p.sync(n.log)
	p.pots.Tidy()
	return nil
}

func (n *Node) status(p *parts) event.NodeStatus {
	n.mu.Lock()
	services := slices.Clone(n.image.services)
	n.mu.Unlock()
	return event.NodeStatus{
		Node: n.o.Name, Version: n.o.Version, Addresses: canonical(n.o.Advertise), Services: services,
		Pots: p.pots.List(), Findings: n.findingsOf(p), At: time.Now(),
	}
}

// Findings says what is wrong with the node.
func (n *Node) Findings() []event.Finding {
	n.mu.Lock()
	p := n.parts
	n.mu.Unlock()
	if p == nil {
		return nil
	}
	return n.findingsOf(p)
}

func (n *Node) findingsOf(p *parts) []event.Finding {
	out := append(p.pots.Findings(), n.personaFindings(p)...)
	out = append(out, p.watch.Findings()...)
	out = append(out, p.doorFindings()...)
	out = append(out, p.egressFindings()...)
	out = append(out, p.over.findings()...)
	n.mu.Lock()
	for _, f := range n.findings {
		out = append(out, f)
	}
	n.mu.Unlock()
	for _, a := range canonical(n.o.Advertise) {
		if !isLocal(n.o.NetNS, a) {
			out = append(out, event.Finding{
				Level: "error", Subject: "advertise",
				Text: fmt.Sprintf("%s is not an address of this machine: redirected traffic does not arrive", a),
				Mend: "name the node's own addresses in its configuration (advertise)",
			})
		}
	}
	if waiting, _, dropped := p.outbox.Pending(); waiting > 1000 || dropped > 0 {
		out = append(out, event.Finding{
			Level: "warning", Subject: "sessions",
			Text: fmt.Sprintf("%d session records wait for the server, %d were dropped", waiting, dropped),
		})
	}
	slices.SortFunc(out, func(a, b event.Finding) int {
		return strings.Compare(a.Subject+"\x00"+a.Text, b.Subject+"\x00"+b.Text)
	})
	return out
}

// finding notes or, without a text, takes back what is wrong with a subject.
func (n *Node) finding(subject string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		delete(n.findings, subject)
		return
	}
	f := event.Finding{Level: "error", Subject: subject, Text: err.Error()}
	var mend interface{ Mend() string }
	if errors.As(err, &mend) {
		f.Mend = mend.Mend()
	}
	n.findings[subject] = f
}

// keepImage has the pots' image built at start, so that the first attacker does not wait for it.
func (n *Node) keepImage(ctx context.Context) {
	retry := time.Second
	for {
		_, err := n.ensureImage(ctx)
		if err == nil || ctx.Err() != nil {
			n.poke()
			return
		}
		n.poke()
		timer := time.NewTimer(retry)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		retry = min(2*retry, time.Minute)
	}
}

// ensureImage returns the pots' image; the built-in one is built where it is missing or old.
func (n *Node) ensureImage(ctx context.Context) (string, error) {
	n.mu.Lock()
	fresh, p := time.Since(n.image.checked) < imageFresh, n.parts
	n.mu.Unlock()
	if fresh {
		return n.o.Image, nil
	}
	if p == nil {
		return "", errors.New("the node does not run")
	}
	err := n.build(ctx, p)
	if err != nil {
		err = fmt.Errorf("image of the pots: %w", err)
		if ctx.Err() == nil {
			n.finding("image", err)
			n.log.ErrorContext(ctx, "no image for pots", "error", err)
		}
		return "", err
	}
	n.finding("image", nil)
	return n.o.Image, nil
}

func (n *Node) build(ctx context.Context, p *parts) error {
	if n.o.Image == BuiltinImage {
		// While it is looked at whether the image is as it should be, the one that is there will do for leases.
		if ports, err := p.engine.Services(ctx, n.o.Image); err == nil {
			n.offer(ports, time.Time{})
		}
		if err := n.buildBuiltin(ctx, p); err != nil {
			if ctx.Err() == nil && !errors.Is(err, engine.ErrUnreachable) {
				n.offer(nil, time.Time{})
			}
			return err
		}
	}
	ports, err := p.engine.Services(ctx, n.o.Image)
	if err != nil {
		return err
	}
	if len(ports) == 0 {
		return fmt.Errorf("%s offers nothing: it has no label kokkuri.service.NAME=PORT", n.o.Image)
	}
	n.offer(ports, time.Now())
	return nil
}

func (n *Node) buildBuiltin(ctx context.Context, p *parts) error {
	progress := &lineLogger{log: func(line string) { n.log.DebugContext(ctx, "image of the pots", "output", line) }}
	return BuildImage(ctx, p.engine, progress)
}

// offer notes what the image offers, and when it was known to be as it should be.
func (n *Node) offer(ports map[event.Service]uint16, checked time.Time) {
	services := slices.Sorted(maps.Keys(ports))
	n.mu.Lock()
	more := len(services) > len(n.image.services)
	n.image = imageState{services: services, checked: checked}
	n.mu.Unlock()
	if more {
		n.poke()
	}
}

var _ io.Writer = (*lineLogger)(nil)

// lineLogger logs what is written to it, line by line.
type lineLogger struct {
	log  func(string)
	rest string
}

func (l *lineLogger) Write(p []byte) (int, error) {
	lines := strings.Split(l.rest+string(p), "\n")
	for _, line := range lines[:len(lines)-1] {
		if line = strings.TrimSpace(line); line != "" {
			l.log(line)
		}
	}
	l.rest = lines[len(lines)-1]
	return len(p), nil
}
