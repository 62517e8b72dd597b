package divert

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const procNet = "/proc/sys/net/"

// forwarder turns forwarding on where redirected packets pass and back off when none do any more. All its
// methods are called in the namespace (space.do).
type forwarder struct {
	space   space
	dir     string
	state   *state
	put     func(path, value string) error
	classic bool // tests: all.forwarding for IPv6 even where the kernel can forward per interface
}

// need names the interfaces by which redirected packets, and their answers, come in.
type need struct{ ifs4, ifs6 []string }

// plan is what has to change, in order, and the shape that the table must have before.
type plan struct {
	shape   shape
	sysctls []sysctl
}

func forward4(name string) string { return procNet + "ipv4/conf/" + name + "/forwarding" }
func forward6(name string) string { return procNet + "ipv6/conf/" + name + "/forwarding" }
func acceptRA(name string) string { return procNet + "ipv6/conf/" + name + "/accept_ra" }

// forced6 forwards what comes in by one interface and leaves it a host otherwise (Linux 6.17).
func forced6(name string) string { return procNet + "ipv6/conf/" + name + "/force_forwarding" }

func get(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read sysctl: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func put(path, value string) error {
	if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
		return fmt.Errorf("write sysctl: %w", err)
	}
	return nil
}

func (s *state) find(path string) (sysctl, bool) {
	i := slices.IndexFunc(s.Sysctls, func(c sysctl) bool { return c.Path == path })
	if i < 0 {
		return sysctl{}, false
	}
	return s.Sysctls[i], true
}

func (s *state) drop(match func(sysctl) bool) { s.Sysctls = slices.DeleteFunc(s.Sysctls, match) }

// prepare notes on disk what will be changed, and returns the plan. Nothing is changed yet.
func (f *forwarder) prepare(n need) (plan, error) {
	f.yield()
	before := len(f.state.Sysctls)
	var p plan
	err4 := f.plan4(n.ifs4, &p)
	err6 := f.plan6(n.ifs6, &p)
	if len(f.state.Sysctls) != before {
		if err := f.state.save(f.dir); err != nil {
			return plan{}, err
		}
	}
	f.shape(&p.shape)
	return p, errors.Join(err4, err6)
}

// yield gives up what someone else has taken over: forwarding turned on for the whole machine after us (as a
// starting Docker does) is theirs, to use and to keep.
func (f *forwarder) yield() {
	before := len(f.state.Sysctls)
	if v, err := get(forward4("all")); err == nil && v == "1" && f.state.All4 == "0" {
		f.state.drop(func(c sysctl) bool { return strings.HasPrefix(c.Path, procNet+"ipv4/") })
		f.state.All4 = ""
	}
	_, ours := f.state.find(forward6("all"))
	if v, err := get(forward6("all")); err == nil && v == "1" && f.state.All6 == "0" && !ours {
		f.state.drop(func(c sysctl) bool { return strings.HasPrefix(c.Path, procNet+"ipv6/") })
		f.state.All6 = ""
	}
	f.state.drop(func(c sysctl) bool { // interfaces that are gone
		_, err := os.Stat(c.Path)
		return errors.Is(err, fs.ErrNotExist)
	})
	if len(f.state.Sysctls) != before {
		_ = f.state.save(f.dir) // what is noted too much is found out again by the next one
	}
}

// turn plans one change: from old to value, remembered once.
func (f *forwarder) turn(p *plan, path, old, value string) {
	if _, ok := f.state.find(path); !ok {
		f.state.Sysctls = append(f.state.Sysctls, sysctl{Path: path, Old: old, New: value})
	}
	p.sysctls = append(p.sysctls, sysctl{Path: path, Old: old, New: value})
}

func (f *forwarder) plan4(ifs []string, p *plan) error {
	if len(ifs) == 0 {
		return nil
	}
	all, err := get(forward4("all"))
	if err != nil {
		return err
	}
	for _, name := range ifs {
		v, err := get(forward4(name))
		if err != nil {
			return err
		}
		if v == "0" {
			if f.state.All4 == "" {
				f.state.All4 = all
			}
			f.turn(p, forward4(name), "0", "1")
		}
	}
	return nil
}

func (f *forwarder) plan6(ifs []string, p *plan) error {
	if len(ifs) == 0 {
		return nil
	}
	all, err := get(forward6("all"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(forced6("all")); err != nil || f.classic {
		return f.planAll6(all, p)
	}
	if all == "1" {
		return nil
	}
	for _, name := range ifs {
		v, err := get(forced6(name))
		if err != nil {
			return err
		}
		if v == "0" {
			f.state.All6 = all
			f.turn(p, forced6(name), "0", "1")
		}
	}
	return nil
}

// planAll6 turns IPv6 forwarding on for the whole machine, the only way before Linux 6.17. Interfaces that accept
// router advertisements must be told first to go on with it on a router: else the kernel deletes their default
// route at once, and nothing brings it back.
func (f *forwarder) planAll6(all string, p *plan) error {
	_, ours := f.state.find(forward6("all"))
	if all == "1" && !ours {
		return nil
	}
	dir, err := os.ReadDir(procNet + "ipv6/conf")
	if err != nil {
		return fmt.Errorf("list IPv6 interfaces: %w", err)
	}
	for _, e := range dir {
		name := e.Name()
		if name == "all" || name == "lo" {
			continue
		}
		fwd, err := get(forward6(name))
		if err != nil {
			continue // it went away
		}
		ra, err := get(acceptRA(name))
		if err != nil {
			continue
		}
		if fwd == "1" && !ours { // all.forwarding sets them all; this one was on by itself
			f.state.Sysctls = append(f.state.Sysctls, sysctl{Path: forward6(name), Old: "1", New: "1"})
		}
		switch {
		case ra == "1" && (fwd == "0" || ours):
			f.turn(p, acceptRA(name), "1", "2")
		case ra == "2" && !ours: // the owner's 2, to be told from those that inherit ours
			f.state.Sysctls = append(f.state.Sysctls, sysctl{Path: acceptRA(name), Old: "2", New: "2"})
		}
	}
	f.state.All6 = "0"
	if all == "0" {
		f.turn(p, forward6("all"), "0", "1")
	}
	return nil
}

// shape derives from the notes what was closed before us.
func (f *forwarder) shape(s *shape) {
	for _, c := range f.state.Sysctls {
		name := func(prefix, suffix string) (string, bool) {
			rest, ok := strings.CutPrefix(c.Path, prefix)
			rest, ok2 := strings.CutSuffix(rest, suffix)
			return rest, ok && ok2
		}
		if n, ok := name(procNet+"ipv4/conf/", "/forwarding"); ok {
			s.closed4 = append(s.closed4, n)
		}
		if n, ok := name(procNet+"ipv6/conf/", "/force_forwarding"); ok {
			s.closed6 = append(s.closed6, n)
		}
		if c.Path == forward6("all") {
			s.all6 = true
		}
	}
	s.closed4, s.closed6 = sorted(s.closed4), sorted(s.closed6)
}

// sysctlError is a sysctl that could not be written.
type sysctlError struct {
	change sysctl
	err    error
}

func (e *sysctlError) Error() string { return fmt.Sprintf("cannot turn forwarding on: %v", e.err) }
func (e *sysctlError) Unwrap() error { return e.err }

func (e *sysctlError) v6() bool { return strings.HasPrefix(e.change.Path, procNet+"ipv6/") }

// mend is what an operator can do about it.
func (e *sysctlError) mend() string {
	name := strings.ReplaceAll(strings.TrimPrefix(e.change.Path, "/proc/sys/"), "/", ".")
	global := "net.ipv4.ip_forward=1"
	if e.v6() {
		name, global = "net.ipv6.conf.all.forwarding", "net.ipv6.conf.all.forwarding=1"
	}
	if errors.Is(e.err, unix.EROFS) {
		return "/proc/sys is read-only here: start this container with --sysctl " + global
	}
	return "sysctl -w " + name + "=1"
}

// apply makes the planned changes in order. A family ends at its first failure, for its order matters.
func (f *forwarder) apply(p plan) []*sysctlError {
	var failed []*sysctlError
	broken := map[bool]bool{}
	for _, c := range p.sysctls {
		e := &sysctlError{change: c}
		if broken[e.v6()] {
			continue
		}
		if e.err = f.put(c.Path, c.New); e.err != nil {
			broken[e.v6()] = true
			failed = append(failed, e)
		}
	}
	if len(failed) > 0 {
		f.state.drop(func(c sysctl) bool { // what did not change needs no putting back
			v, err := get(c.Path)
			return err == nil && v == c.Old && c.Old != c.New
		})
		_ = f.state.save(f.dir) // noting too much does no harm: putting back an unchanged value changes nothing
	}
	return failed
}

// restore puts everything back: forwarding first, acceptance of router advertisements after it, for while
// forwarding is on it takes the 2 to keep the default route.
func (f *forwarder) restore() error {
	f.yield()
	var errs []error
	back := func(c sysctl) {
		if v, err := get(c.Path); errors.Is(err, fs.ErrNotExist) || err == nil && v != c.New && c.Old != c.New {
			return // gone, or someone else's value by now
		}
		if err := f.put(c.Path, c.Old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	ra := func(c sysctl) bool { return strings.HasSuffix(c.Path, "/accept_ra") }
	for _, c := range slices.Backward(f.state.Sysctls) {
		if !ra(c) && c.Old != c.New {
			back(c)
		}
	}
	for _, c := range f.state.Sysctls {
		if ra(c) != (c.Old == c.New) {
			back(c)
		}
	}
	if d, ok := f.state.find(acceptRA("default")); ok {
		errs = append(errs, f.restoreNew(d))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("put forwarding back: %w", err)
	}
	f.state.Sysctls, f.state.All4, f.state.All6 = nil, "", ""
	return f.state.save(f.dir)
}

// restoreNew mends the interfaces that came up in the meantime and inherited our default.
func (f *forwarder) restoreNew(d sysctl) error {
	dir, err := os.ReadDir(procNet + "ipv6/conf")
	if err != nil {
		return fmt.Errorf("list IPv6 interfaces: %w", err)
	}
	for _, e := range dir {
		path := acceptRA(e.Name())
		if _, ok := f.state.find(path); ok || e.Name() == "all" {
			continue
		}
		if v, err := get(path); err == nil && v == d.New {
			if err := f.put(path, d.Old); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
