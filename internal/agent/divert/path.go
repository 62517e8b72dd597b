package divert

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/event"
)

// paths knows whether redirected packets get through the host to their endpoint and back.
type paths struct {
	space      space
	host       *host
	table      string
	dockerUser bool

	rules   *ruleset // nil: to be read anew
	cache   map[pathKey]*filter
	depends map[netip.Addr]consulted
}

// pathKey holds what of a flow the verdict depended on; the rest is zero.
type pathKey struct {
	in       string
	source   netip.Addr
	port     uint16
	endpoint netip.AddrPort
}

// trouble is why a redirect can't be, and what an operator can do about it.
type trouble struct{ reason, mend string }

func (t trouble) String() string {
	if t.mend == "" {
		return t.reason
	}
	return t.reason + "; mend: " + t.mend
}

// forget drops the snapshot of the host's rules, for they changed.
func (p *paths) forget() { p.rules, p.cache, p.depends = nil, nil, nil }

// refresh reads the rules where they were forgotten.
func (p *paths) refresh(ctx context.Context) error {
	if p.rules != nil {
		return nil
	}
	rs, err := readFilters(p.space, p.table)
	if err != nil {
		return err
	}
	if err := p.space.do(func() error { rs.readLegacy(ctx); return nil }); err != nil {
		return err
	}
	p.rules, p.cache, p.depends = rs, map[pathKey]*filter{}, map[netip.Addr]consulted{}
	return nil
}

// check returns the route to the redirect's endpoint, or what is in the way.
func (p *paths) check(ctx context.Context, k key, r event.Redirect) (route, *trouble) {
	to := p.host.routeTo(r.Endpoint.Addr())
	if to.err != nil {
		return to, &trouble{
			fmt.Sprintf("no route to endpoint %s: %v", r.Endpoint.Addr(), cause(to.err)),
			fmt.Sprintf("give this host a route, until `ip route get %s` names one", r.Endpoint.Addr()),
		}
	}
	if err := p.refresh(ctx); err != nil {
		return to, &trouble{reason: fmt.Sprintf("the host's own rules can't be read: %v", err)}
	}
	blocked := p.blocked(k, r, to)
	if blocked == nil {
		return to, nil
	}
	if p.dockerUser && p.dockerChain(blocked) != nil && !to.local {
		return to, &trouble{reason: needsDockerUser, mend: p.mend(blocked, r.Endpoint.Addr())}
	}
	return to, p.trouble(blocked, r.Endpoint.Addr())
}

// needsDockerUser is the reason of a trouble that our own rule in DOCKER-USER would end.
const needsDockerUser = "needs a rule in DOCKER-USER"

func cause(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return err
}

func (p *paths) blocked(k key, r event.Redirect, to route) *filter {
	hook := uint32(unix.NF_INET_FORWARD)
	if to.local {
		hook = unix.NF_INET_LOCAL_IN
	}
	if len(p.rules.bases(hook, r.Endpoint.Addr().Is6())) == 0 {
		return nil
	}
	f := flow{source: k.source.Addr(), port: k.port, endpoint: r.Endpoint, out: to.iface, local: to.local}
	id := p.key(f)
	if c, ok := p.cache[id]; ok {
		return c
	}
	c, used := p.rules.blocks(f)
	if used&usedIn != 0 {
		f.in = p.host.routeTo(f.source).iface
		var more consulted
		c, more = p.rules.blocks(f)
		used |= more
	}
	if len(p.cache) >= maxRoutes {
		clear(p.cache)
	}
	p.depends[r.Endpoint.Addr()] |= used
	p.cache[p.key(f)] = c
	return c
}

// key reduces a flow to what verdicts for its endpoint were found to depend on.
func (p *paths) key(f flow) pathKey {
	used := p.depends[f.endpoint.Addr()]
	id := pathKey{endpoint: netip.AddrPortFrom(f.endpoint.Addr(), 0)}
	if used&usedIn != 0 {
		id.in = p.host.routeTo(f.source).iface
	}
	if used&usedSource != 0 {
		id.source = f.source
	}
	if used&usedPort != 0 {
		id.endpoint, id.port = f.endpoint, f.port
	}
	return id
}

func (p *paths) trouble(c *filter, endpoint netip.Addr) *trouble {
	what := "its rules"
	if c.drops {
		what = "policy drop"
	}
	kind := ""
	if c.legacy {
		kind = " of iptables-legacy"
	}
	return &trouble{
		fmt.Sprintf("this host's own firewall would drop it: chain %s of table %s %s%s (%s)", c.name, c.family, c.table, kind, what),
		p.mend(c, endpoint),
	}
}

func (p *paths) sibling(c *filter, name string) *filter {
	id := c.id()
	id.name = name
	return p.rules.chains[id]
}

// dockerChain returns the chain that Docker keeps for its users' rules, where it is asked before c drops.
func (p *paths) dockerChain(c *filter) *filter {
	if c.table != "filter" || c.name != "FORWARD" {
		return nil
	}
	return p.sibling(c, dockerUserChain)
}

// mend returns the command that opens the path.
func (p *paths) mend(c *filter, endpoint netip.Addr) string {
	if c.table == "filter" && slices.Contains([]string{"FORWARD", "INPUT"}, c.name) && c.family != "inet" {
		program := strings.TrimSuffix(strings.TrimSuffix(programOf(c), "-nft"), "-legacy")
		if c.legacy {
			program += "-legacy"
		}
		at := c.name
		switch {
		case c.name == "FORWARD" && (p.sibling(c, "ufw-user-forward") != nil || p.sibling(c, "ufw6-user-forward") != nil):
			return fmt.Sprintf("ufw route allow proto tcp to %s", endpoint)
		case p.dockerChain(c) != nil:
			at = dockerUserChain
		}
		return program + " -I " + at + " " + strings.Join(dockerRule(endpoint.String(), p.table), " ")
	}
	ip := "ip"
	if endpoint.Is6() {
		ip = "ip6"
	}
	return fmt.Sprintf("nft insert rule %s %s %s ct status dnat ct reply %s saddr %s accept", c.family, c.table, c.name, ip, endpoint)
}

const dockerUserChain = "DOCKER-USER"

// dockerRule accepts redirected connections to an endpoint, in both directions, and nothing else.
func dockerRule(endpoint, mark string) []string {
	return []string{
		"-p", "tcp", "-m", "conntrack", "--ctstate", "DNAT", "--ctreplsrc", endpoint,
		"-m", "comment", "--comment", mark, "-j", "ACCEPT",
	}
}

// programOf is the command that owns a chain of table filter.
func programOf(c *filter) string {
	switch {
	case c.legacy && c.family == "ip6":
		return legacy6
	case c.legacy:
		return legacy4
	case c.family == "ip6":
		return "ip6tables-nft"
	default:
		return "iptables-nft"
	}
}

// found returns the program under the name that this system has for it.
func found(program string) string {
	if _, err := exec.LookPath(program); err != nil {
		return strings.TrimSuffix(program, "-nft")
	}
	return program
}

// openDocker puts our one rule for an endpoint into DOCKER-USER, once it is noted for removal.
func (p *paths) openDocker(ctx context.Context, st *state, dir string, k key, r event.Redirect) error {
	to := p.host.routeTo(r.Endpoint.Addr())
	c := p.blocked(k, r, to)
	if c == nil || p.dockerChain(c) == nil {
		return nil
	}
	ours := rule{Program: found(programOf(c)), Endpoint: r.Endpoint.Addr().String()}
	if !slices.Contains(st.Rules, ours) {
		st.Rules = append(st.Rules, ours)
		if err := st.save(dir); err != nil {
			return err
		}
	}
	args := append([]string{"-w", "2", "-I", dockerUserChain, "1"}, dockerRule(ours.Endpoint, p.table)...)
	err := p.space.do(func() error { _, err := run(ctx, ours.Program, args...); return err })
	if err != nil {
		return fmt.Errorf("add rule to %s: %w", dockerUserChain, err)
	}
	p.forget()
	return p.refresh(ctx)
}

// closeDocker takes our rules out of DOCKER-USER again; each was noted before it was put there.
func closeDocker(ctx context.Context, sp space, st *state, dir, mark string) error {
	if len(st.Rules) == 0 {
		return nil
	}
	err := sp.do(func() error {
		var errs []error
		for _, r := range st.Rules {
			out, err := run(ctx, r.Program, "-w", "2", "-S", dockerUserChain)
			if err != nil {
				continue // the chain is gone, and our rule with it
			}
			for line := range strings.Lines(string(out)) {
				w, err := words(line)
				if err != nil || len(w) < 2 || w[0] != "-A" || !marked(w, mark) {
					continue
				}
				w[0] = "-D"
				if _, err := run(ctx, r.Program, append([]string{"-w", "2"}, w...)...); err != nil {
					errs = append(errs, err)
				}
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("remove rule from %s: %w", dockerUserChain, err)
	}
	st.Rules = nil
	return st.save(dir)
}

func marked(w []string, mark string) bool {
	i := slices.Index(w, "--comment")
	return i >= 0 && i+1 < len(w) && w[i+1] == mark
}
