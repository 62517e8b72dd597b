package honeypot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/kokkuri/kokkuri/internal/dump"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/fetch"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/firstbytes"
	"github.com/kokkuri/kokkuri/internal/honeypot/egress/sink"
	"github.com/kokkuri/kokkuri/internal/honeypot/netns"
	"github.com/kokkuri/kokkuri/internal/honeypot/record"
)

// maxFetched bounds the bodies that are being passed to pots at once.
const maxFetched = 16

// recorder has the proxy fetch for pots, and keeps what came.
type recorder struct {
	p       *parts
	client  *fetch.Client
	passing chan struct{}
}

// Fetch implements sink.Fetcher.
func (r *recorder) Fetch(ctx context.Context, w sink.Want) (*sink.Fetched, bool, error) {
	select {
	case r.passing <- struct{}{}:
	default:
		return nil, true, errors.New("too much is being passed on")
	}
	done := func() { <-r.passing }
	reply, body, err := r.client.Do(ctx, fetch.Request{
		Attacker: w.Pot.Attacker, Method: w.Method, Secure: w.Secure, Name: w.Name, Addr: w.Addr, Port: w.Port, Target: w.Target, Agent: w.Agent,
	})
	if err == nil && reply.Error != "" {
		err = errors.New(reply.Error)
	}
	if err != nil {
		done()
		return nil, reply.Refused, err
	}
	f := &sink.Fetched{Status: reply.Status, Body: body, Size: reply.Size, Done: done}
	for _, h := range reply.Headers {
		f.Headers = append(f.Headers, firstbytes.Header{Name: h.Name, Value: h.Value})
	}
	if body != nil && reply.Size > 0 {
		r.keep(w, reply, body)
	}
	return f, false, nil
}

// keep makes what came evidence.
func (r *recorder) keep(w sink.Want, reply fetch.Reply, body io.ReaderAt) {
	var file *record.File
	r.p.homes.With(w.Pot, func(rec *record.Recorder) { file = rec.Fetched(event.Bytes(w.URL), reply.Truncated) })
	_, _ = io.Copy(io.NewOffsetWriter(file, 0), io.NewSectionReader(body, 0, reply.Size)) // a file marks what it lacks
	file.Close(false)
}

// ours are the addresses and networks that nothing is fetched from for being ours.
func (p *parts) ours(n *Node) func() ([]netip.Prefix, error) {
	return func() ([]netip.Prefix, error) {
		told := p.told.Load()
		if told == nil {
			return nil, errors.New("the server has not said yet which addresses are its, its hosts' and its nodes'")
		}
		out, err := networks(n.o.NetNS)
		if err != nil {
			return nil, err
		}
		addrs := append(canonical(n.o.Advertise), *told...)
		for _, l := range p.book.Leases() {
			addrs = append(addrs, l.Seen...)
			addrs = append(addrs, l.Target.Addr())
		}
		for _, a := range addrs {
			if a = event.Canonical(a); a.IsValid() {
				out = append(out, netip.PrefixFrom(a, a.BitLen()))
			}
		}
		return out, nil
	}
}

// openRecorder opens the way out, where the node's operator wants one.
func (n *Node) openRecorder(p *parts) error {
	client, end, err := fetch.Pair()
	if err != nil {
		return err
	}
	p.proxyEnd = end
	p.proxy = fetch.New(fetch.Options{
		Policy: fetch.Policy{Own: p.ours(n), Forbid: p.egress.Forbid}, Dir: n.o.StateDir, MaxSize: p.egress.FetchSize,
		PerMinute: p.egress.PerMinute, AllPerMinute: p.egress.AllPerMinute, Resolve: p.egress.Resolve, NetNS: n.o.NetNS, Log: n.log,
	})
	p.recorder = &recorder{p: p, client: fetch.NewClient(client), passing: make(chan struct{}, maxFetched)}
	return nil
}

// networks are those that a namespace has addresses in.
func networks(ns *netns.NS) ([]netip.Prefix, error) {
	var out []netip.Prefix
	err := ns.Do(func() error {
		addrs, err := dump.Ask(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
		if err != nil {
			return fmt.Errorf("list addresses: %w", err)
		}
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			bits, _ := a.Mask.Size()
			if ok {
				out = append(out, netip.PrefixFrom(ip, bits).Masked())
			}
		}
		return nil
	})
	return out, err
}
