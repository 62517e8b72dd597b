package parse

import "time"

// clock reads the times of lines. Lines come by the dozen in one second: of those that state the second of the
// line before, only the decimals are read. The zero value is ready.
type clock struct {
	isoText, bsdText text // the second that was read last, as it stood in the line, an ISO one with its zone
	isoTime, bsdTime time.Time
	ref              time.Time // that gave bsdTime its year and zone
	said             fields    // of the line's structured data, kept here so that it costs no allocation
}

// text is a short text kept without allocating.
type text struct {
	b [32]byte
	n int
}

func (t *text) is(b []byte) bool { return string(t.b[:t.n]) == string(b) }

func (t *text) set(b []byte) { t.n = copy(t.b[:], b) }

const (
	isoSeconds = len("2026-11-22T18:00:00")
	bsdSeconds = len("Nov 22 18:00:00")
)

// iso is isoTime.
func (c *clock) iso(b []byte) (t time.Time, rest []byte, ok bool) {
	if len(b) > isoSeconds && c.isoText.n > isoSeconds && string(c.isoText.b[:isoSeconds]) == string(b[:isoSeconds]) {
		nanos, rest := fraction(b[isoSeconds:])
		zone := c.isoText.b[isoSeconds:c.isoText.n]
		// What follows a zone is a space; anything else is read anew.
		if len(rest) > len(zone) && string(rest[:len(zone)]) == string(zone) && rest[len(zone)] == ' ' {
			return c.isoTime.Add(time.Duration(nanos)), rest[len(zone):], true
		}
	}
	t, rest, ok = isoTime(b)
	if ok {
		zone := b[isoSeconds : len(b)-len(rest)]
		nanos, zone := fraction(zone)
		if isoSeconds+len(zone) <= len(c.isoText.b) {
			c.isoText.set(b[:isoSeconds])
			c.isoText.n += copy(c.isoText.b[isoSeconds:], zone)
			c.isoTime = t.Add(-time.Duration(nanos))
		}
	}
	return t, rest, ok
}

// bsd is bsdTime.
func (c *clock) bsd(b []byte, ref time.Time) (t time.Time, rest []byte, ok bool) {
	if len(b) >= bsdSeconds && c.bsdText.is(b[:bsdSeconds]) && c.ref == ref { //nolint:staticcheck // its zone must be the same too
		nanos, rest := fraction(b[bsdSeconds:])
		return c.bsdTime.Add(time.Duration(nanos)), rest, true
	}
	t, rest, ok = bsdTime(b, ref)
	if ok {
		nanos, _ := fraction(b[bsdSeconds:])
		c.bsdText.set(b[:bsdSeconds])
		c.bsdTime, c.ref = t.Add(-time.Duration(nanos)), ref
	}
	return t, rest, ok
}
