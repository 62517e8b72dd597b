package honeypot

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
	"github.com/kokkuri/kokkuri/internal/honeypot/furnish"
	"github.com/kokkuri/kokkuri/internal/honeypot/guise"
	"github.com/kokkuri/kokkuri/internal/honeypot/persona"
	"github.com/kokkuri/kokkuri/internal/honeypot/pool"
)

const (
	suiteRetry = time.Minute // before an image is tried again that could not be built
	maxRSA     = 4096        // bits of an RSA key that is made; one of more would take a minute
)

// suites are the images of other distributions than the usual one.
type suites struct {
	wanted chan string
	keys   chan event.PersonaOf // whose RSA keys are to be made
	ready  map[string]bool      // by suite; under the node's lock
}

func newSuites() suites {
	return suites{wanted: make(chan string, len(persona.Suites())), keys: make(chan event.PersonaOf, 64), ready: map[string]bool{}}
}

// openPersonas opens what pots are to be.
func (n *Node) openPersonas(p *parts) (err error) {
	p.personas, err = persona.Open(persona.Options{
		Dir: filepath.Join(n.o.StateDir, "personas"), Log: n.log,
		Ask: func(ctx context.Context, host string) (event.PersonaOf, error) {
			return n.o.Bus.Persona(ctx, n.o.Name, host)
		},
		Learnt: func(_ context.Context, v event.PersonaOf) { n.prepare(v) },
	})
	return err
}

// prepare has made ready what pots with a persona need, so that no attacker waits for it.
func (n *Node) prepare(v event.PersonaOf) {
	select {
	case n.suites.keys <- v:
	default: // it is looked at again at the next start, or change
	}
	suite, _ := persona.SuiteOf(v.Persona.OS)
	n.wantSuite(suite)
	n.poke()
}

// keepKeys makes RSA host keys until ctx is done.
func (n *Node) keepKeys(ctx context.Context, p *parts) {
	for _, v := range p.personas.Hosts() {
		n.prepare(v)
	}
	for {
		var v event.PersonaOf
		select {
		case <-ctx.Done():
			return
		case v = <-n.suites.keys:
		}
		for _, k := range v.Persona.SSH.HostKeys {
			if k.Type != "rsa" || k.Bits > maxRSA {
				continue
			}
			if err := p.keys.MakeRSA(v.Host, k.Bits); err != nil {
				n.log.ErrorContext(ctx, "no RSA host key for the pots of a host", "host", v.Host, "error", err)
			}
		}
	}
}

func (n *Node) wantSuite(suite string) {
	if n.o.Image != BuiltinImage || suite == engine.DefaultSuite {
		return
	}
	select {
	case n.suites.wanted <- suite:
	default: // so many wait that it is among them, or asked for again
	}
}

// keepSuites builds images of other distributions, when a host's persona needs one, until ctx is done.
func (n *Node) keepSuites(ctx context.Context, p *parts) {
	for {
		var suite string
		select {
		case <-ctx.Done():
			return
		case suite = <-n.suites.wanted:
		}
		if n.suiteReady(suite) {
			continue
		}
		n.finding("image "+suite, fmt.Errorf("the image of pots of Debian's %s is being built; until then pots of such hosts are of %s", suite, engine.DefaultSuite))
		n.poke()
		var progress io.Writer = &lineLogger{log: func(line string) { n.log.DebugContext(ctx, "image of the pots", "suite", suite, "output", line) }}
		err := BuildSuite(ctx, p.engine, suite, progress)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			err = fmt.Errorf("the image of pots of Debian's %s can't be built; pots of such hosts are of %s: %w", suite, engine.DefaultSuite, err)
			n.log.ErrorContext(ctx, "no image for pots", "suite", suite, "error", err)
			n.finding("image "+suite, err)
			n.poke()
			timer := time.AfterFunc(suiteRetry, func() { n.wantSuite(suite) })
			defer timer.Stop()
			continue
		}
		n.mu.Lock()
		n.suites.ready[suite] = true
		n.mu.Unlock()
		n.finding("image "+suite, nil)
		n.log.InfoContext(ctx, "image of pots is ready", "image", ImageOf(suite))
		n.poke()
	}
}

func (n *Node) suiteReady(suite string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return suite == engine.DefaultSuite || n.suites.ready[suite]
}

// imageFor returns the image of an attacker's pot, and decides what the pot is.
func (n *Node) imageFor(ctx context.Context, p *parts, k event.PotKey) (string, error) {
	v, err := p.personas.Pin(ctx, k)
	if err != nil {
		return "", err
	}
	return n.imageOf(ctx, v.Persona.OS)
}

func (n *Node) imageOf(ctx context.Context, os event.OSRelease) (string, error) {
	suite, _ := persona.SuiteOf(os)
	if n.o.Image != BuiltinImage || !n.suiteReady(suite) {
		n.wantSuite(suite)
		suite = engine.DefaultSuite
	}
	if suite == engine.DefaultSuite {
		return n.ensureImage(ctx)
	}
	return ImageOf(suite), nil
}

// warmImage returns the image of pots that wait: what most hosts are.
func (n *Node) warmImage(ctx context.Context, p *parts) (string, error) {
	votes := map[string]int{}
	most := engine.DefaultSuite
	for _, v := range p.personas.Hosts() {
		suite, _ := persona.SuiteOf(v.Persona.OS)
		votes[suite]++
	}
	for _, suite := range persona.Suites() {
		if votes[suite] > votes[most] {
			most = suite
		}
	}
	if most == engine.DefaultSuite || n.o.Image != BuiltinImage || !n.suiteReady(most) {
		return n.ensureImage(ctx)
	}
	return ImageOf(most), nil
}

// fits tells whether a pot of this image is one for an attacker.
func (n *Node) fits(p *parts, k event.PotKey, image string) bool {
	if n.o.Image != BuiltinImage {
		return true
	}
	suite, _ := persona.SuiteOf(p.personas.Of(k).Persona.OS)
	return !n.suiteReady(suite) || suiteOfImage(image) == suite
}

// suiteOfImage is the suite that a built-in image is of.
func suiteOfImage(image string) string {
	for _, suite := range persona.Suites() {
		if image == ImageOf(suite) {
			return suite
		}
	}
	return engine.DefaultSuite
}

// persona is what an attacker's pot is; empty where nothing is known.
func (p *parts) persona(k event.PotKey) event.Persona { return p.personas.Of(k).Persona }

// signers are the SSH host keys that an attacker sees: the host's own where its operator gives them out.
func (p *parts) signers(k event.PotKey) ([]gossh.Signer, error) {
	if own := p.own.signers(k.Host); len(own) > 0 {
		return own, nil
	}
	return p.keys.SignersOf(k, p.persona(k).SSH.HostKeys)
}

// version is what an attacker's SSH server calls itself.
func (n *Node) version(p *parts, k event.PotKey) string {
	if n.o.SSH.Version != "" {
		return n.o.SSH.Version
	}
	if v := p.persona(k).SSH.Identification; v != "" {
		return v
	}
	return p.pots.Banner()
}

// dress makes a pot its attacker's machine: at each start what the engine forgets, at first all of it.
func (n *Node) dress(ctx context.Context, p *parts, d pool.Dressing) error {
	v, err := p.personas.Pin(ctx, d.PotKey)
	if err != nil {
		return err
	}
	name := v.Persona.Hostname
	if name == "" {
		name = d.Host
	}
	files, err := p.keys.FilesOf(d.PotKey, name, v.Persona.SSH.HostKeys)
	if err != nil {
		return err
	}
	pot, err := furnish.Open(d.PID)
	if err != nil {
		return err
	}
	defer pot.Close()
	if err := p.applyEgress(); err != nil {
		return err
	}
	if d.First {
		suite, exact := persona.SuiteOf(v.Persona.OS)
		own := exact && n.o.Image == BuiltinImage && suiteOfImage(d.Image) == suite
		if err := pot.Become(v.Persona, own); err != nil { // it is a pot all the same
			n.log.WarnContext(ctx, "a pot is not all that its persona says", "container", d.ID, "host", d.Host, "error", err)
		}
		if v.Persona.TimeZone != "" && d.Guised { // what writes times and waits for them begins anew (images/ssh/init.c)
			_ = unix.Kill(d.PID, unix.SIGUSR2) // it may have ended, which shows below
		}
	}
	if err := pot.Make(furnish.Machine{Hostname: name, Domain: v.Persona.Domain, Address: d.Address, Resolver: p.net.Gateway(), HostKeys: files, Authority: p.ca.PublicKey()}); err != nil {
		return err
	}
	return n.remember(ctx, p, d, pot, v.Persona)
}

// remember gives a pot a past: what was before its attacker, and since when it runs.
func (n *Node) remember(ctx context.Context, p *parts, d pool.Dressing, pot *furnish.Pot, v event.Persona) error {
	seed, err := p.keys.Seed(d.Host)
	if err != nil {
		return err
	}
	m := machineOf(v)
	own(&m)
	past := furnish.Past{Seed: seed, Now: time.Now(), Booted: guise.Booted(), Zone: time.UTC, Release: m.Release}
	if zone, err := time.LoadLocation(v.TimeZone); err == nil {
		past.Zone = zone
	}
	if err := pot.Boot(past.Booted, past.Release); err != nil { // it is a pot all the same
		n.log.WarnContext(ctx, "a pot does not know since when it runs", "container", d.ID, "error", err)
	}
	if !d.First {
		return nil
	}
	if err := pot.Remember(past); err != nil {
		n.log.WarnContext(ctx, "a pot has no past", "container", d.ID, "error", err)
	}
	return nil
}

// personaFindings say whose pots are not what they should be.
func (n *Node) personaFindings(p *parts) []event.Finding {
	var out []event.Finding
	for _, v := range p.personas.Hosts() {
		suite, exact := persona.SuiteOf(v.Persona.OS)
		if exact {
			continue
		}
		out = append(out, event.Finding{
			Level: "warning", Subject: "persona of " + v.Host,
			Text: fmt.Sprintf("the host is %s; its pots are Debian's %s, the nearest there is, and say so inside", strings.TrimSpace(v.Persona.OS.PrettyName), suite),
			Mend: "an image of your own can be set with honeypot.image (docs/persona.md)",
		})
	}
	return out
}
