package web

import (
	"strconv"
	"strings"
)

// answered takes bytes of the server.
func (c *conversation) answered(p []byte) {
	for len(p) > 0 && !c.passing {
		out := &c.out
		if out.now != nil {
			n, ok := out.body.take(p, func([]byte) {})
			out.now.answered += int64(n)
			p = p[n:]
			if !ok {
				c.giveUp()
			} else if out.body.over() {
				c.answerOver()
			}
			continue
		}
		out.held = append(out.held, p...)
		h, n := cutHead(out.held, false)
		if n == 0 {
			if len(out.held) > maxHead {
				c.giveUp()
			}
			return
		}
		p = append([]byte(nil), out.held[n:]...)
		c.answers(h, n)
		out.held = nil
	}
}

// answers takes an answer's head.
func (c *conversation) answers(h head, size int) {
	if len(c.pending) == 0 {
		c.giveUp()
		return
	}
	x := c.pending[0]
	x.answered += int64(size)
	version, rest, _ := strings.Cut(string(h.lines[0]), " ")
	status, _, _ := strings.Cut(rest, " ")
	code, err := strconv.Atoi(status)
	b, ok := bodyOf(h)
	if err != nil || !strings.HasPrefix(version, "HTTP/1.") || !ok {
		c.giveUp()
		return
	}
	if code/100 == 1 && code != 101 {
		return // the answer comes later
	}
	x.answer, x.status = string(h.lines[0][:min(len(h.lines[0]), keptAnswer)]), code
	c.out.now, c.out.body = x, b
	length, _ := h.field("Content-Length")
	switch {
	case x.upgrades && (code == 101 || x.method == "CONNECT" && code/100 == 2):
		c.giveUp()
		return
	case x.method == "HEAD", code == 204, code == 304:
		c.out.body = body{}
	case !b.chunked && length == "":
		c.out.body = body{endless: true}
	}
	if c.out.body.over() {
		c.answerOver()
	}
}

// answerOver notes the request that was answered.
func (c *conversation) answerOver() {
	x := c.out.now
	c.out.now = nil
	if len(c.pending) > 0 && c.pending[0] == x {
		c.pending = c.pending[1:]
	}
	c.note(x)
}
