package intake

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Bounds of what waits to be handed on.
const (
	maxQueue      = 4096
	maxQueueBytes = 8 << 20
)

type datagram struct {
	sender netip.Addr
	line   []byte
}

// datagrams takes syslog datagrams in until the socket's deadline is set. Nothing can make their senders wait: where the bus
// is slower they are dropped, and counted.
func (in *Intake) datagrams(late context.Context, conn *net.UDPConn) {
	defer func() { _ = conn.Close() }()
	queue := make(chan datagram, maxQueue)
	var waiting atomic.Int64 // bytes
	done := make(chan struct{})
	go func() {
		defer close(done)
		in.handDatagramsOn(late, queue, &waiting)
	}()
	defer func() {
		close(queue)
		<-done
	}()
	buf := make([]byte, maxFrame)
	for {
		n, peer, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			in.mu.Lock()
			stopping := !in.stopping.IsZero()
			in.mu.Unlock()
			if stopping || errors.Is(err, net.ErrClosed) {
				return
			}
			continue // a message of the kernel about an earlier datagram
		}
		sender := event.Canonical(peer.Addr())
		if _, ok := in.o.HostOf(sender); !ok {
			in.counts.refusedUnknown.Add(1)
			continue
		}
		line := text(buf[:n])
		if len(line) == 0 {
			continue
		}
		if waiting.Load()+int64(len(line)) > maxQueueBytes {
			in.counts.udpDropped.Add(1)
			continue
		}
		select {
		case queue <- datagram{sender, append([]byte(nil), line...)}:
			waiting.Add(int64(len(line)))
		default:
			in.counts.udpDropped.Add(1)
		}
	}
}

// handDatagramsOn batches what is there, by sender, and hands it on until the queue is closed.
func (in *Intake) handDatagramsOn(ctx context.Context, queue <-chan datagram, waiting *atomic.Int64) {
	id := make([]byte, 12)
	_, _ = rand.Read(id) // never fails
	sent := uint64(0)
	for d := range queue {
		at := in.o.Clock()
		taken := []datagram{d}
		for size := len(d.line); len(taken) < maxLines && size < maxBytes; size += len(taken[len(taken)-1].line) {
			d, ok := next(queue)
			if !ok {
				break
			}
			taken = append(taken, d)
		}
		for _, b := range in.bySender(taken, at) {
			sent++
			b.ID = fmt.Sprintf("%s/udp/%s.%d", b.Host, hex.EncodeToString(id), sent)
			if !in.publish(ctx, b) {
				in.lost(ctx, b.Host, len(b.Lines))
				continue
			}
			n := int64(len(b.Lines))
			in.counts.udpLines.Add(n)
			if !in.trusted(b.Origin) {
				in.counts.udpUntrusted.Add(n)
			}
		}
		for _, d := range taken {
			waiting.Add(-int64(len(d.line)))
		}
	}
}

func next(queue <-chan datagram) (d datagram, ok bool) {
	select {
	case d, ok = <-queue:
		return d, ok
	default:
		return d, false
	}
}

// bySender makes batches of datagrams: one for each sender, in the order of their first.
func (in *Intake) bySender(taken []datagram, at time.Time) []event.Batch {
	var batches []event.Batch
	index := make(map[netip.Addr]int)
	for _, d := range taken {
		host, ok := in.o.HostOf(d.sender)
		if !ok {
			in.counts.refusedUnknown.Add(1)
			continue
		}
		if _, reason := in.owner(d.line, host); reason != "" {
			in.counts.putAside(Quarantined{At: at, Sender: d.sender, Host: host, Reason: reason}, d.line)
			continue
		}
		i, ok := index[d.sender]
		if !ok {
			i = len(batches)
			index[d.sender] = i
			batches = append(batches, event.Batch{Host: host, Road: event.RoadSyslogUDP, Origin: d.sender.String(), Received: at})
		}
		batches[i].Lines = append(batches[i].Lines, d.line)
	}
	return batches
}

func (in *Intake) trusted(origin string) bool {
	a, err := netip.ParseAddr(origin)
	if err != nil {
		return false
	}
	for _, p := range in.o.TrustUDP {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
