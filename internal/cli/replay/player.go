package replay

import (
	"context"
	"fmt"
	"io"
	"time"
)

const (
	leap      = 5 * time.Second
	maxSpeed  = 64
	minSpeed  = 1.0 / 16
	maxSearch = 100 // characters

	clearAll = "\x1b[0m\x1b[r\x1b[?1049l\x1b[?25h\x1b[2J\x1b[H"
	leave    = "\x1b[0m\x1b[r\x1b[?1049l\x1b[?25h\r\n"
)

// Options of a replay.
type Options struct {
	Out    io.Writer
	Keys   <-chan byte // what is pressed; nil for nothing
	Speed  float64     // 1 where 0
	Search string      // where to begin; at the start where empty
}

// player is a replay that is going on.
type player struct {
	tape   *Tape
	out    io.Writer
	at     int           // the frame that was shown last
	now    time.Duration // on the tape
	since  time.Time     // when that was
	speed  float64
	paused bool
	search string
	typing bool // a search is being typed
	keys   []byte
	err    error
}

// Play plays a tape until its end, q is pressed, or ctx is done. Space pauses, . shows the next piece, +
// and - change the speed, the arrows go 5 seconds on and back, / searches and n searches again.
func Play(ctx context.Context, t *Tape, o Options) error {
	p := &player{tape: t, out: o.Out, at: -1, speed: o.Speed, search: o.Search}
	if p.speed <= 0 {
		p.speed = 1
	}
	if p.search != "" {
		p.again()
	}
	keys := o.Keys
	p.since = time.Now()
	for p.err == nil {
		wait := p.wait()
		if wait == nil && p.at+1 >= len(t.frames) && !p.paused {
			break
		}
		select {
		case <-ctx.Done():
			return p.leave()
		case <-wait:
			p.show(p.at + 1)
		case k, ok := <-keys:
			if !ok {
				keys = nil
				if p.paused { // nobody can go on
					return p.leave()
				}
				continue
			}
			p.tick()
			if p.key(k) {
				return p.leave()
			}
			p.since = time.Now()
		}
	}
	return p.leave()
}

func (p *player) leave() error {
	p.write(leave)
	return p.err
}

func (p *player) write(s string) {
	if _, err := io.WriteString(p.out, s); err != nil && p.err == nil {
		p.err = fmt.Errorf("write the replay: %w", err)
	}
}

// tick moves on to now on the tape, up to the next frame.
func (p *player) tick() {
	passed := time.Duration(float64(time.Since(p.since)) * p.speed)
	p.since = time.Now()
	if p.paused || p.typing || p.at+1 >= len(p.tape.frames) {
		return
	}
	p.now = min(p.now+passed, p.tape.frames[p.at+1].at)
}

// wait fires when the next frame is due.
func (p *player) wait() <-chan time.Time {
	if p.paused || p.typing || p.at+1 >= len(p.tape.frames) {
		return nil
	}
	p.tick()
	return time.After(time.Duration(float64(p.tape.frames[p.at+1].at-p.now) / p.speed))
}

// show shows the frames up to one that follows.
func (p *player) show(n int) {
	for p.at < n && p.at+1 < len(p.tape.frames) {
		p.at++
		p.write(string(p.tape.frames[p.at].data))
	}
	if p.at >= 0 {
		p.now, p.since = p.tape.frames[p.at].at, time.Now()
	}
}

// jump shows everything up to a frame from the start, at once.
func (p *player) jump(n int) {
	p.write(clearAll)
	p.at, p.now = -1, 0
	p.show(n)
}

// key takes a key; done says that it ends the replay.
func (p *player) key(k byte) (done bool) {
	if p.typing {
		p.typed(k)
		return false
	}
	if len(p.keys) > 0 || k == 0x1b {
		p.keys = append(p.keys, k)
		p.arrow()
		return false
	}
	switch k {
	case 'q', 3, 4: // and ^C, ^D
		return true
	case ' ':
		p.paused = !p.paused
		p.redraw()
	case '.':
		if p.paused {
			p.show(p.at + 1)
			p.status("")
		}
	case '+', '>', '=':
		p.speed = min(p.speed*2, maxSpeed)
		p.redraw()
	case '-', '<':
		p.speed = max(p.speed/2, minSpeed)
		p.redraw()
	case '/':
		p.typing, p.search = true, ""
		p.status("/")
	case 'n':
		p.again()
	}
	return false
}

// arrow takes the bytes of an arrow key: ESC [ C, ESC [ D.
func (p *player) arrow() {
	switch seq := string(p.keys); seq {
	case "\x1b", "\x1b[", "\x1bO":
		return
	case "\x1b[C", "\x1bOC":
		p.leapTo(p.now + leap)
	case "\x1b[D", "\x1bOD":
		p.leapTo(max(p.now-leap, 0))
	}
	p.keys = nil
}

func (p *player) leapTo(at time.Duration) {
	p.jump(p.tape.before(at))
	p.now = min(at, p.tape.Length())
	p.redraw()
}

// typed takes a character of what is searched for.
func (p *player) typed(k byte) {
	switch {
	case k == '\r' || k == '\n':
		p.typing = false
		p.again()
		return
	case k == 0x1b || k == 3:
		p.typing = false
		p.redraw()
		return
	case k == 0x7f || k == 8:
		p.search = p.search[:max(0, len(p.search)-1)]
	case k >= ' ' && len(p.search) < maxSearch:
		p.search += string(rune(k))
	}
	p.status("/" + Text([]byte(p.search)))
}

// again goes to where the text appears next, and pauses there.
func (p *player) again() {
	n, ok := p.tape.find(p.search, p.at)
	if !ok {
		p.status("not found: " + Text([]byte(p.search)))
		return
	}
	p.jump(n)
	p.paused = true
	p.status("")
}

// redraw takes the status line away, or shows it.
func (p *player) redraw() {
	if p.paused {
		p.status("")
		return
	}
	now := p.now
	p.jump(p.at)
	p.now = max(now, p.now)
}

// status shows a line at the bottom.
func (p *player) status(text string) {
	if text == "" {
		text = fmt.Sprintf("%s of %s, speed %gx — space: go on, .: step, ←→: 5 s, +-: speed, /: search, q: end",
			clock(p.now), clock(p.tape.Length()), p.speed)
	}
	p.write("\x1b7\x1b[999;1H\x1b[7m " + text + " \x1b[0m\x1b[K\x1b8")
}

func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}
