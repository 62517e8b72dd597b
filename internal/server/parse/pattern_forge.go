package parse

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Addresses for examples (RFC 5737): who really is there, and whom a forger wants to blame.
const (
	trueSource   = "192.0.2.1"
	forgedSource = "192.0.2.99"
)

// maxTried bounds the bytes of all forgeries: some seconds' work at most, and milliseconds for a few patterns.
const maxTried = 2 << 20

// forge tries forgeries: into every field of every pattern that a client may write into go pieces of every pattern of the
// same program, made of text that would blame another, and the message must still be read as what it is.
func (c *compiler) forge() {
	told := map[[2]int]bool{}
	for _, tag := range slices.Sorted(maps.Keys(c.byTag)) {
		list := c.byTag[tag]
		only := patternsOf(list)
		for _, a := range list {
			if told[[2]int{a.definition, a.index}] {
				continue
			}
			if fault := c.forgeOne(a.pattern, only); fault != nil {
				told[[2]int{a.definition, a.index}] = true
				c.fail(a.definition, a.index, "pattern", fault.found, fault.allowed)
			}
		}
	}
}

// forgeOne tries the forgeries of one pattern's messages.
func (c *compiler) forgeOne(a pattern, all []pattern) *patternFault {
	for _, full := range []bool{true, false} {
		slots := writable(a.elements, full)
		for slot := range slots {
			for _, b := range all {
				for _, payload := range payloads(b) {
					value := payload
					if slots[slot] == "quoted" {
						value = strings.ReplaceAll(strings.ReplaceAll(value, `\`, `\\`), `"`, `\"`)
					}
					m := sample(a.elements, full, trueSource, slot, value)
					if c.tried += len(m); c.tried > maxTried {
						return &patternFault{"patterns that take too long to try forgeries on", "fewer or shorter patterns, with fewer word, text and quoted fields"}
					}
					if !believes(all, a, m) {
						continue
					}
					return &patternFault{
						"a form that can be forged: a client who writes " + quoteShort(payload) + " makes " + quoteShort(m) + " blame another, or nobody",
						"patterns of which no two read the same message differently: give the source a fixed place, at the beginning or at the end",
					}
				}
			}
		}
	}
	return nil
}

// believes says whether a message of pattern a is read as somebody else's, or as nobody's though it is somebody's.
func believes(all []pattern, a pattern, m string) bool {
	f := readBy(all, []byte(m))
	if f.kind == "" {
		return false // a word with spaces
	}
	want := netip.MustParseAddr(trueSource)
	if !a.hasSource() {
		return f.states()
	}
	return f.source != want
}

func (p *pattern) hasSource() bool {
	return slices.ContainsFunc(p.elements, func(e element) bool { return e.is(placeholder) && e.name == "source" })
}

func quoteShort(s string) string {
	const most = 120
	s = Escape(s)
	if len(s) > most {
		s = s[:most] + "…"
	}
	return "\"" + s + "\""
}

// writable are the types of the fields into which clients may write, in order; full: with the optional parts.
func writable(list []element, full bool) []string {
	var out []string
	for _, e := range list {
		switch {
		case e.is(optional) && full:
			out = append(out, writable(e.inner, full)...)
		case e.is(placeholder) && (e.hostile() || e.typ == "quoted"):
			out = append(out, e.typ)
		}
	}
	return out
}

// sample writes a message of a pattern by a source, in which the writable field number slot is value.
func sample(list []element, full bool, source string, slot int, value string) string {
	var b strings.Builder
	var write func(list []element)
	write = func(list []element) {
		for _, e := range list {
			switch e.form {
			case literal:
				b.WriteString(e.text)
			case choice:
				b.WriteString(e.choices[0])
			case optional:
				if full {
					write(e.inner)
				}
			case placeholder:
				text := usual(e, source)
				if e.hostile() || e.typ == "quoted" {
					if slot == 0 {
						text = value
					}
					slot--
				}
				if e.typ == "quoted" {
					text = `"` + text + `"`
				}
				b.WriteString(text)
			}
		}
	}
	write(list)
	return b.String()
}

// usual is a harmless value of a field.
func usual(e element, source string) string {
	switch e.typ {
	case "ip", "host":
		if e.name == "source" {
			return source
		}
		return "192.0.2.50"
	case "port", "int":
		return "7"
	}
	return "x"
}

// maxPayloadCuts bounds the places between which pieces are cut.
const maxPayloadCuts = 40

// payloads are pieces of a message of a pattern that blames another.
func payloads(b pattern) []string {
	seen := map[string]bool{}
	for _, full := range []bool{true, false} {
		m := sample(b.elements, full, forgedSource, -1, "")
		cuts := []int{0}
		for i := 1; i < len(m); i++ {
			if wordByte(m[i]) != wordByte(m[i-1]) && m[i] != '.' && m[i-1] != '.' {
				cuts = append(cuts, i)
			}
		}
		cuts = append(cuts, len(m))
		if len(cuts) > maxPayloadCuts { // those around the source matter
			at := strings.Index(m, forgedSource)
			slices.SortFunc(cuts, func(x, y int) int { return abs(x-at) - abs(y-at) })
			cuts = cuts[:maxPayloadCuts]
			slices.Sort(cuts)
		}
		for i := range cuts {
			for j := i + 1; j < len(cuts); j++ {
				if piece := m[cuts[i]:cuts[j]]; strings.Contains(piece, forgedSource) {
					seen[piece], seen["x"+piece+"x"] = true, true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.'
}

func abs(n int) int { return max(n, -n) }
