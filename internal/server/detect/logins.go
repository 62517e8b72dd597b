package detect

import (
	"container/list"
	"net/netip"

	"github.com/kokkuri/kokkuri/internal/event"
)

// maxLoginsOfSource bounds the connections remembered of one source at one service of one host.
const maxLoginsOfSource = 64

// logins remembers connections whose login succeeded until they end or fail.
type logins struct {
	max     int
	n       int
	evicted uint64
	sets    map[loginKey]*list.Element // of *loginSet
	order   *list.List                 // the longest without a login first
}

// loginKey names a source (an IPv6 one by its /64) at a service of a host.
type loginKey struct {
	service event.Service
	host    string
	source  netip.Prefix
}

type loginSet struct {
	key  loginKey
	list []login // the oldest first
}

type login struct {
	peer netip.AddrPort
	pos  event.Position
}

func newLogins(limit int) logins {
	return logins{max: limit, sets: map[loginKey]*list.Element{}, order: list.New()}
}

func (l *logins) observe(pos event.Position, e *event.Event) {
	if e.Kind != event.AuthOK && (e.Kind != event.AuthFailed && !e.Closed || l.n == 0) || !e.Source.IsValid() || e.SourcePort == 0 || l.max < 0 {
		return
	}
	k := loginKey{e.Service, e.Host, event.SourcePrefix(e.Source, 64)}
	peer := netip.AddrPortFrom(e.Source, e.SourcePort)
	switch {
	case e.Kind == event.AuthOK:
		l.remove(k, peer)
		l.add(k, login{peer, pos})
	case e.Kind == event.AuthFailed || e.Closed:
		l.remove(k, peer)
	}
}

func (l *logins) add(k loginKey, one login) {
	if l.max < 0 {
		return
	}
	el, ok := l.sets[k]
	if !ok {
		el = l.order.PushBack(&loginSet{key: k})
		l.sets[k] = el
	}
	l.order.MoveToBack(el)
	set := value(el)
	if len(set.list) >= maxLoginsOfSource {
		set.list = append(set.list[:0], set.list[1:]...)
		l.n--
		l.evicted++
	}
	set.list = append(set.list, one)
	l.n++
	for l.n > l.max {
		oldest := l.order.Front()
		l.evicted += uint64(len(value(oldest).list))
		l.drop(oldest)
	}
}

func (l *logins) remove(k loginKey, peer netip.AddrPort) {
	el, ok := l.sets[k]
	if !ok {
		return
	}
	set := value(el)
	for i := range set.list {
		if set.list[i].peer == peer {
			set.list = append(set.list[:i], set.list[i+1:]...)
			l.n--
			break
		}
	}
	if len(set.list) == 0 {
		l.drop(el)
	}
}

func (l *logins) drop(el *list.Element) {
	set := value(el)
	l.n -= len(set.list)
	l.order.Remove(el)
	delete(l.sets, set.key)
}

// before returns the source's logins from before a position, the oldest first.
func (l *logins) before(s event.Service, host string, source netip.Prefix, pos event.Position) []netip.AddrPort {
	el, ok := l.sets[loginKey{s, host, event.SourcePrefix(source.Addr(), 64)}]
	if !ok {
		return nil
	}
	var out []netip.AddrPort
	for _, one := range value(el).list {
		if one.pos.Before(pos) && source.Contains(one.peer.Addr()) {
			out = append(out, one.peer)
		}
	}
	return out
}

func value(el *list.Element) *loginSet {
	set, _ := el.Value.(*loginSet)
	return set
}
