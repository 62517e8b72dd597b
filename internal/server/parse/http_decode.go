package parse

// decoder reads a URL of an access log byte by byte: what the server escaped for the log (nginx \xHH, Apache \xhh, \n, \"
// and the like), and what the client percent-encoded, once or, as attacks do, twice.
type decoder struct {
	b    []byte
	once bool
}

func (d *decoder) next() (byte, bool) {
	if len(d.b) == 0 {
		return 0, false
	}
	c := d.b[0]
	switch {
	case c == '%':
		return d.percent(), true
	case c == '\\' && len(d.b) > 1:
		return d.escape(), true
	}
	d.b = d.b[1:]
	return c, true
}

func (d *decoder) percent() byte {
	v, ok := hexByte(d.b[1:])
	if !ok {
		d.b = d.b[1:]
		return '%'
	}
	d.b = d.b[3:]
	if v == '%' && !d.once {
		if again, ok := hexByte(d.b); ok {
			d.b = d.b[2:]
			return again
		}
	}
	return v
}

func (d *decoder) escape() byte {
	c := d.b[1]
	if c == 'x' {
		if v, ok := hexByte(d.b[2:]); ok {
			d.b = d.b[4:]
			return v
		}
	}
	d.b = d.b[2:]
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// hexByte reads two hexadecimal digits that begin b.
func hexByte(b []byte) (byte, bool) {
	if len(b) < 2 {
		return 0, false
	}
	high, ok1 := hexDigit(b[0])
	low, ok2 := hexDigit(b[1])
	return byte(high<<4 | low), ok1 && ok2
}
