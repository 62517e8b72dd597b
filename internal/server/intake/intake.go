package intake

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/tail"
)

// Options of an Intake.
type Options struct {
	ListenTCP []netip.AddrPort
	ListenTLS []netip.AddrPort
	ListenUDP []netip.AddrPort
	TLS       *tls.Config    // of ListenTLS: it demands and checks the senders' certificates
	Relays    []netip.Prefix // TCP senders whose lines say by their HOSTNAME field whose they are
	// RelayNames are the TLS senders of whom the same holds, by the name in their certificate.
	RelayNames []string
	TrustUDP   []netip.Prefix // whose datagrams are not counted as untrusted; what they may cause is decided elsewhere
	Files      []FileSource
	StateDir   string // keeps the files' cursors

	HostOf     func(sender netip.Addr) (host string, ok bool) // the enrolled host that has an address
	HostByName func(name string) (host string, ok bool)       // the enrolled host that a line means by a name
	// Sender returns whom a certificate lets send lines; an error refuses it. It is asked again while a connection lives.
	Sender  func(cert *x509.Certificate) (name string, err error)
	Publish func(ctx context.Context, b event.Batch) error // returns when the bus has acknowledged

	// Send, where given, takes the batches of TCP instead of Publish: it sends one, in the order of the calls, and does
	// not wait; the function that it returns does, until the bus has acknowledged. It keeps nothing of the lines.
	Send func(b event.Batch) (wait func(context.Context) error, err error)

	MaxConns         int           // open at once; 2048
	MaxPerSender     int           // from one address; 64
	FirstTimeout     time.Duration // for the first byte of a connection; 1 min
	FrameTimeout     time.Duration // for a frame that was begun; 30 s
	HandshakeTimeout time.Duration // for the whole TLS handshake; 10 s
	IdleTimeout      time.Duration // between frames; 0: none, for rsyslog loses a line when its connection is closed under its feet
	StopTimeout      time.Duration // for what senders have under way when we stop; 250 ms
	Poll             time.Duration // how often files are looked at where the kernel says nothing; 1 s
	Clock            func() time.Time
	Log              *slog.Logger
}

func (o *Options) setDefaults() {
	if o.MaxConns <= 0 {
		o.MaxConns = 2048
	}
	if o.MaxPerSender <= 0 {
		o.MaxPerSender = 64
	}
	if o.FirstTimeout <= 0 {
		o.FirstTimeout = time.Minute
	}
	if o.FrameTimeout <= 0 {
		o.FrameTimeout = 30 * time.Second
	}
	if o.HandshakeTimeout <= 0 {
		o.HandshakeTimeout = 10 * time.Second
	}
	if o.StopTimeout <= 0 {
		o.StopTimeout = 250 * time.Millisecond
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

var errNoTLS = errors.New("intake: to listen for TLS, TLS and Sender are needed")

var errIncomplete = errors.New("intake: HostOf, HostByName and Publish are needed")

// Intake takes log lines in. Its Run may be called once.
type Intake struct {
	o       Options
	counts  counts
	watcher *tail.Watcher
	files   []*fileSource

	mu       sync.Mutex
	underWay chan struct{} // has a place for each batch of TCP that may wait for the bus at once

	tcp      []net.Listener
	tls      []net.Listener
	udp      []*net.UDPConn
	conns    map[*connection]struct{}
	senders  map[netip.Addr]int
	stopping time.Time // when open connections must be done; zero while we run
}

// New checks the options; it listens to nothing and opens no file yet.
func New(o Options) (*Intake, error) {
	o.setDefaults()
	if o.HostOf == nil || o.HostByName == nil || o.Publish == nil {
		return nil, errIncomplete
	}
	if len(o.ListenTLS) > 0 && (o.TLS == nil || o.Sender == nil) {
		return nil, errNoTLS
	}
	in := &Intake{o: o, underWay: make(chan struct{}, maxUnderWay), conns: make(map[*connection]struct{}), senders: make(map[netip.Addr]int)}
	for _, f := range o.Files {
		s, err := in.newFileSource(f)
		if err != nil {
			return nil, fmt.Errorf("file source %s: %w", f.Pattern, err)
		}
		in.files = append(in.files, s)
	}
	return in, nil
}

// Listen opens the sockets; Run does so itself where Listen was not called.
func (in *Intake) Listen(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.tcp != nil || in.tls != nil || in.udp != nil {
		return nil
	}
	var lc net.ListenConfig
	lc.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}
	for _, kind := range []struct {
		name  string
		addrs []netip.AddrPort
		into  *[]net.Listener
	}{{"tcp", in.o.ListenTCP, &in.tcp}, {"tls", in.o.ListenTLS, &in.tls}} {
		for _, a := range kind.addrs {
			l, err := lc.Listen(ctx, "tcp", a.String())
			if err != nil {
				in.closeListeners()
				return listenError(kind.name, a, err)
			}
			*kind.into = append(*kind.into, l)
		}
	}
	for _, a := range in.o.ListenUDP {
		l, err := lc.ListenPacket(ctx, "udp", a.String())
		if err != nil {
			in.closeListeners()
			return listenError("udp", a, err)
		}
		conn, ok := l.(*net.UDPConn)
		if ok {
			_ = conn.SetReadBuffer(4 << 20) // as much of it as the kernel grants
			in.udp = append(in.udp, conn)
		}
	}
	return nil
}

func listenError(network string, a netip.AddrPort, err error) error {
	mend := "choose another address in server.syslog.listen_" + network
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		flag := map[string]string{"tcp": "-ltnp", "tls": "-ltnp", "udp": "-lunp"}[network]
		mend = fmt.Sprintf("another program has this port: see ss %s 'sport = :%d', stop it, or choose another address in server.syslog.listen_%s", flag, a.Port(), network)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		mend = "this machine has no such address: see ip address, and correct server.syslog.listen_" + network
	case errors.Is(err, syscall.EACCES):
		mend = "only root may listen there: choose a port above 1023 in server.syslog.listen_" + network
	}
	return fmt.Errorf("take syslog at %s/%s: %w; %s", a, network, err, mend)
}

func (in *Intake) closeListeners() {
	for _, l := range slices.Concat(in.tcp, in.tls) {
		_ = l.Close()
	}
	for _, l := range in.udp {
		_ = l.Close()
	}
	in.tcp, in.tls, in.udp = nil, nil, nil
}

// TLSAddresses returns where syslog over TLS is listened for.
func (in *Intake) TLSAddresses() []netip.AddrPort {
	in.mu.Lock()
	defer in.mu.Unlock()
	out := make([]netip.AddrPort, 0, len(in.tls))
	for _, l := range in.tls {
		out = append(out, netip.MustParseAddrPort(l.Addr().String()))
	}
	return out
}

// Addresses returns where the sockets for plain syslog listen, TCP first.
func (in *Intake) Addresses() (tcp, udp []netip.AddrPort) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, l := range in.tcp {
		tcp = append(tcp, netip.MustParseAddrPort(l.Addr().String()))
	}
	for _, l := range in.udp {
		udp = append(udp, netip.MustParseAddrPort(l.LocalAddr().String()))
	}
	return tcp, udp
}

// Run takes lines in until ctx ends; then it takes what senders have under way, for a moment, and returns nil. An error is
// returned where a socket can't be opened or a cursor can't be used.
func (in *Intake) Run(ctx context.Context) error {
	if err := in.Listen(ctx); err != nil {
		return err
	}
	// Batches that were read are handed on a little longer than ctx lives.
	late, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	run, stop := context.WithCancel(ctx)
	defer stop()
	var parts sync.WaitGroup
	var once sync.Once
	var failed error
	fail := func(err error) {
		if err != nil {
			once.Do(func() { failed = err })
			stop()
		}
	}
	in.mu.Lock()
	tcp, secure, udp := in.tcp, in.tls, in.udp
	in.mu.Unlock()
	for _, l := range tcp {
		parts.Go(func() { in.accept(run, late, l, &parts, nil) })
	}
	for _, l := range secure {
		parts.Go(func() { in.accept(run, late, l, &parts, in.o.TLS) })
	}
	for _, l := range udp {
		parts.Go(func() { in.datagrams(late, l) })
	}
	if len(in.files) > 0 {
		in.watcher = tail.NewWatcher(in.o.Log)
		defer in.watcher.Close()
		for _, f := range in.files {
			parts.Go(func() { fail(f.run(run)) })
		}
	}
	<-run.Done()
	in.stop()
	timer := time.AfterFunc(2*in.o.StopTimeout, giveUp)
	defer timer.Stop()
	parts.Wait()
	return failed
}

// stop closes the listeners and bids the open connections to come to their end.
func (in *Intake) stop() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stopping = time.Now().Add(in.o.StopTimeout)
	for _, l := range slices.Concat(in.tcp, in.tls) {
		_ = l.Close()
	}
	for _, l := range in.udp {
		_ = l.SetReadDeadline(time.Now())
	}
	for c := range in.conns {
		c.stop(in.stopping)
	}
}

// publish hands a batch on, again and again until it is taken; false where ctx ended before.
func (in *Intake) publish(ctx context.Context, b event.Batch) bool {
	return in.acknowledged(ctx, waiting{batch: b, lines: len(b.Lines), wait: func(ctx context.Context) error { return in.o.Publish(ctx, b) }})
}

// acknowledged waits, again and again, until a batch is taken; false where ctx ended before.
func (in *Intake) acknowledged(ctx context.Context, one waiting) bool {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := one.wait(ctx)
		if err == nil {
			in.counts.lines.Add(int64(one.lines))
			in.counts.batches.Add(1)
			return true
		}
		in.counts.retries.Add(1)
		if pause == 50*time.Millisecond && ctx.Err() == nil {
			in.o.Log.WarnContext(ctx, "lines wait to be handed on, and so do their senders", "host", one.batch.Host, "road", one.batch.Road, "error", err)
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return false
		case <-t.C:
		}
	}
}

// lost notes lines that were read and could not be handed on before we had to stop.
func (in *Intake) lost(ctx context.Context, host string, lines int) {
	in.counts.lost.Add(int64(lines))
	in.o.Log.WarnContext(ctx, "lines are lost: the bus took no more when we had to stop", "host", host, "lines", lines)
}

// owner returns the host that a line is of, by the name in it. Where the sender is known to be a host it must name that one.
func (in *Intake) owner(line []byte, sender string) (host, reason string) {
	name := hostname(line)
	if name == nil {
		return "", reasonNoHost
	}
	if sender != "" && string(name) == sender { // as nearly always
		return sender, ""
	}
	var ok bool
	if a, isAddress := addressIn(name); isAddress {
		host, ok = in.o.HostOf(event.Canonical(a))
	} else {
		host, ok = in.o.HostByName(string(name))
	}
	switch {
	case sender != "" && (!ok || host != sender):
		return "", reasonOtherHost
	case !ok:
		return "", reasonUnknownHost
	}
	return host, ""
}

// addressIn reads an address that stands in a host name's place.
func addressIn(name []byte) (netip.Addr, bool) {
	if (name[0] < '0' || name[0] > '9') && bytes.IndexByte(name, ':') < 0 {
		return netip.Addr{}, false // cheaper than the error that says so
	}
	a, err := netip.ParseAddr(string(name))
	return a, err == nil
}

// Stats returns what was counted so far.
func (in *Intake) Stats() Stats {
	s := in.counts.snapshot()
	for _, f := range in.files {
		s.Files.Add(f.stats())
	}
	return s
}

// Findings returns what hinders the taking in now, each with its mend.
func (in *Intake) Findings() []event.Finding {
	var out []event.Finding
	for _, f := range in.files {
		out = append(out, f.findings()...)
	}
	s := in.counts.snapshot()
	if n := s.Quarantined[reasonOtherHost]; n > 0 {
		out = append(out, event.Finding{
			Level: "warning", Subject: "syslog", Text: fmt.Sprintf("%d lines named another host than the one that sent them and were put aside", n),
			Mend: "give the host the name it calls itself by as an alias; a log server that forwards for others belongs into server.syslog.relays",
		})
	}
	if s.RefusedUnknown > 0 {
		out = append(out, event.Finding{
			Level: "warning", Subject: "syslog", Text: fmt.Sprintf("%d connections or datagrams came from addresses of no host and were refused", s.RefusedUnknown),
			Mend: "enrol the host, or give it the address in the server's configuration",
		})
	}
	return out
}
