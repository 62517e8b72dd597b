package mysql

import (
	"bytes"
	"compress/zlib"
	"io"
)

const (
	compressedHeader = 7
	maxCompressed    = 1 << 20 // bytes of a frame that is looked into
)

// compressed reads the frames of the compressed protocol: what is in them goes to a follower.
type compressed struct {
	to func([]byte)

	held []byte
	lost bool // what comes can't be read any more
}

func (c *compressed) feed(p []byte) {
	for len(p) > 0 && !c.lost {
		if n := compressedHeader - len(c.held); n > 0 {
			n = min(n, len(p))
			c.held, p = append(c.held, p[:n]...), p[n:]
			continue
		}
		size, whole := bodySize(c.held), bodySize(c.held[4:])
		if size > maxCompressed || whole > 0 && size > whole+1024 {
			c.lost = true
			return
		}
		n := min(size+compressedHeader-len(c.held), len(p))
		c.held, p = append(c.held, p[:n]...), p[n:]
		if len(c.held) == size+compressedHeader {
			c.open(c.held[compressedHeader:], whole)
			c.held = c.held[:0]
		}
	}
}

// open passes on what is in a frame; whole is its size, 0 where it is not compressed.
func (c *compressed) open(body []byte, whole int) {
	if whole == 0 {
		c.to(body)
		return
	}
	r, err := zlib.NewReader(bytes.NewReader(body))
	if err != nil {
		c.lost = true
		return
	}
	buf := make([]byte, min(whole, 32<<10))
	for left := whole; left > 0; {
		n, err := r.Read(buf[:min(left, len(buf))])
		c.to(buf[:n])
		left -= n
		if err != nil && (err != io.EOF || left > 0) {
			c.lost = true
			return
		}
	}
}
