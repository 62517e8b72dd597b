package divert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// programs are the commands that a snapshot of iptables-legacy needs; the kernel shows its rules to no one else.
const (
	legacy4 = "iptables-legacy"
	legacy6 = "ip6tables-legacy"
)

// readLegacy adds the chains of iptables-legacy's filter tables. It is called in the namespace. The commands are
// started only where such a table exists, for they would make one.
func (r *ruleset) readLegacy(ctx context.Context) {
	for _, l := range []struct{ names, family, program string }{
		{"/proc/thread-self/net/ip_tables_names", "ip", legacy4},
		{"/proc/thread-self/net/ip6_tables_names", "ip6", legacy6},
	} {
		names, err := os.ReadFile(l.names)
		if err != nil || !slices.Contains(strings.Fields(string(names)), "filter") {
			continue
		}
		out, err := run(ctx, l.program, "-w", "2", "-S")
		if err != nil {
			r.partial = fmt.Sprintf("the rules of %s can't be read: %v", l.program, err)
			continue
		}
		for _, f := range parseLegacy(l.family, out) {
			r.chains[f.id()] = f
		}
	}
}

// run starts a program in the namespace of the calling thread.
func run(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			return nil, fmt.Errorf("%s: %w: %s", program, err, text)
		}
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return out, nil
}

// parseLegacy reads the output of `iptables -S`.
func parseLegacy(family string, out []byte) map[string]*filter {
	chains := map[string]*filter{}
	get := func(name string) *filter {
		f := chains[name]
		if f == nil {
			f = &filter{family: family, table: "filter", name: name, legacy: true}
			chains[name] = f
		}
		return f
	}
	for line := range strings.Lines(string(out)) {
		w, err := words(line)
		if err != nil || len(w) < 2 {
			continue
		}
		f := get(w[1])
		switch w[0] {
		case "-P":
			f.drops = len(w) > 2 && w[2] == "DROP"
			switch f.name {
			case "FORWARD":
				f.base, f.hook = true, unix.NF_INET_FORWARD
			case "INPUT":
				f.base, f.hook = true, unix.NF_INET_LOCAL_IN
			}
		case "-A":
			f.rules = append(f.rules, legacyRule(w[2:]))
		}
	}
	return chains
}

// words splits a line as iptables quotes it: by spaces, but not in double quotes.
func words(line string) ([]string, error) {
	var out []string
	var b strings.Builder
	quoted, escaped, some := false, false, false
	for _, c := range strings.TrimSpace(line) {
		switch {
		case escaped:
			b.WriteRune(c)
			escaped = false
		case c == '\\' && quoted:
			escaped = true
		case c == '"':
			quoted, some = !quoted, true
		case c == ' ' && !quoted:
			if some {
				out = append(out, b.String())
			}
			b.Reset()
			some = false
		default:
			b.WriteRune(c)
			some = true
		}
	}
	if quoted {
		return nil, errors.New("quote without end")
	}
	if some {
		out = append(out, b.String())
	}
	return out, nil
}

// legacyRule compiles the options of one rule; one that isn't known makes it undecided.
func legacyRule(w []string) step {
	var s step
	negated := false
	take := func(i *int) string {
		*i++
		if *i < len(w) {
			return w[*i]
		}
		return ""
	}
	add := func(test func(*machine) truth) {
		not := negated
		negated = false
		s = append(s, func(m *machine) truth { return invertIf(test(m), not) })
	}
	for i := 0; i < len(w); i++ { //nolint:intrange // options take their values
		switch w[i] {
		case "!":
			negated = true
		case "-m":
			take(&i)
		case "--comment":
			take(&i)
		case "-s", "-d":
			source := w[i] == "-s"
			p, err := netip.ParsePrefix(take(&i))
			add(func(m *machine) truth {
				from, to := m.ends()
				if !source {
					from = to
				}
				return certain(err == nil && p.Contains(from))
			})
		case "-i", "-o":
			arriving := w[i] == "-i"
			name := take(&i)
			add(func(m *machine) truth { return interfaceIs(m, arriving, name) })
		case "-p":
			p := take(&i)
			add(func(*machine) truth { return certain(p == "tcp" || p == "all") })
		case "--ctstate", "--state":
			states := stateMask(take(&i))
			add(func(m *machine) truth { return stateIn(m, states) })
		case "--ctreplsrc":
			p, err := parseNet(take(&i))
			add(func(m *machine) truth { return certain(err == nil && p.Contains(m.flow.endpoint.Addr())) })
		case "-j", "-g":
			leave := w[i] == "-g"
			return append(s, legacyTarget(leave, take(&i))) // what follows are the target's own options
		default:
			s = append(s, unsure)
		}
	}
	return s
}

func legacyTarget(leave bool, target string) func(*machine) truth {
	code := int32(unix.NFT_JUMP)
	if leave {
		code = unix.NFT_GOTO
	}
	switch target {
	case "ACCEPT":
		return ends(verdict{code: nfAccept})
	case "DROP", "REJECT":
		return ends(verdict{code: nfDrop})
	case "RETURN":
		return ends(verdict{code: unix.NFT_RETURN})
	}
	return ends(verdict{code: code, chain: target}) // LOG and the like are chains that don't exist
}

func parseNet(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	if ip, mask, ok := strings.Cut(s, "/"); ok && strings.Contains(mask, ".") {
		ones, _ := net.IPMask(net.ParseIP(mask).To4()).Size()
		s = fmt.Sprintf("%s/%d", ip, ones)
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("read address: %w", err)
	}
	return p, nil
}

func certain(b bool) truth {
	if b {
		return yes
	}
	return no
}

func interfaceIs(m *machine, arriving bool, name string) truth {
	have := m.flow.out
	if arriving {
		have = m.flow.in
	}
	if arriving != m.flow.reply {
		m.used |= usedIn
	}
	if have == "" {
		return maybe
	}
	if prefix, ok := strings.CutSuffix(name, "+"); ok {
		return certain(strings.HasPrefix(have, prefix))
	}
	return certain(have == name)
}

func stateMask(list string) uint16 {
	var out uint16
	for name := range strings.SplitSeq(list, ",") {
		switch name {
		case "NEW":
			out |= xtNew
		case "ESTABLISHED":
			out |= xtEstablished
		case "RELATED":
			out |= xtRelated
		case "INVALID":
			out |= xtInvalid
		case "DNAT":
			out |= xtDNAT
		case "SNAT":
			out |= xtSNAT
		}
	}
	return out
}
