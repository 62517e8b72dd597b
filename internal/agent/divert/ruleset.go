package divert

import (
	"slices"

	"golang.org/x/sys/unix"
)

// filter is a chain of the host's own firewall, compiled.
type filter struct {
	family string // ip, ip6 or inet
	table  string
	name   string
	hook   uint32 // unix.NF_INET_FORWARD or NF_INET_LOCAL_IN where base
	base   bool
	drops  bool // its policy
	legacy bool // of iptables-legacy
	rules  []step
}

// step is a rule: tests, each of which must not say no, and a verdict that the last may have set.
type step []func(*machine) truth

// ruleset is a snapshot of the host's filter chains.
type ruleset struct {
	chains  map[chainID]*filter
	partial string // why something could not be read; empty where all was
}

// chainID names a chain. Legacy tables are worlds of their own.
type chainID struct {
	family, table, name string
	legacy              bool
}

func (f *filter) id() chainID { return chainID{f.family, f.table, f.name, f.legacy} }

// bases returns the chains that see packets of a family at a hook, in a stable order.
func (r *ruleset) bases(hook uint32, v6 bool) []*filter {
	own := "ip"
	if v6 {
		own = "ip6"
	}
	var out []*filter
	for _, c := range r.chains {
		if c.base && c.hook == hook && (c.family == own || c.family == "inet") {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *filter) int {
		return slices.Compare([]string{a.family, a.table, a.name}, []string{b.family, b.table, b.name})
	})
	return out
}

// blocks returns the chain that would eat the flow's packets, nil where none surely or probably would. Rules
// whose matches can't be decided neither accept nor drop: a block list of some sources is no closed door, and a
// door that is open to some is not surely open to this one.
func (r *ruleset) blocks(f flow) (*filter, consulted) {
	hook := uint32(unix.NF_INET_FORWARD)
	if f.local {
		hook = unix.NF_INET_LOCAL_IN
	}
	var used consulted
	directions := []bool{false, true}
	if f.local {
		directions = directions[:1] // answers leave by the output hook, which hosts hardly ever close
	}
	for _, c := range r.bases(hook, f.v6()) {
		for _, reply := range directions {
			g := f
			if reply {
				g.reply, g.in, g.out = true, f.out, f.in
			}
			m := &machine{flow: g}
			v := r.run(m, c, 0)
			used |= m.used
			if v == nfDrop || v == unix.NFT_CONTINUE && c.drops {
				return c, used
			}
		}
	}
	return nil, used
}

const (
	maxDepth = 16      // of jumps, the kernel's own limit
	maxSteps = 100_000 // rules that are run for one verdict
)

// run returns nfAccept, nfDrop, or NFT_CONTINUE where the chain decided nothing.
func (r *ruleset) run(m *machine, c *filter, depth int) int32 {
	if depth > maxDepth {
		return unix.NFT_CONTINUE
	}
	for _, s := range c.rules {
		if m.steps++; m.steps > maxSteps {
			return unix.NFT_CONTINUE
		}
		matched := yes
		m.verdict = verdict{code: unix.NFT_CONTINUE}
		for _, test := range s {
			matched = min(matched, test(m))
			if matched == no {
				break
			}
		}
		if matched != yes {
			continue
		}
		v := m.verdict
		switch v.code {
		case nfAccept, nfDrop:
			return v.code
		case unix.NFT_RETURN:
			return unix.NFT_CONTINUE
		case unix.NFT_JUMP, unix.NFT_GOTO:
			to := c.id()
			to.name = v.chain
			if target := r.chains[to]; target != nil {
				if got := r.run(m, target, depth+1); got != unix.NFT_CONTINUE {
					return got
				}
			}
			if v.code == unix.NFT_GOTO {
				return unix.NFT_CONTINUE
			}
		}
	}
	return unix.NFT_CONTINUE
}
