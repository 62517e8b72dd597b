package detect

// lru is a list of groups from the longest untouched to the latest.
type lru struct {
	head, tail *group // oldest and newest
	n          int
}

func (l *lru) oldest() *group { return l.head }

func (l *lru) push(g *group) {
	g.older, g.newer = l.tail, nil
	if l.tail != nil {
		l.tail.newer = g
	} else {
		l.head = g
	}
	l.tail = g
	g.listed = g.last
	l.n++
}

func (l *lru) remove(g *group) {
	if g.older != nil {
		g.older.newer = g.newer
	} else {
		l.head = g.newer
	}
	if g.newer != nil {
		g.newer.older = g.older
	} else {
		l.tail = g.older
	}
	g.older, g.newer = nil, nil
	l.n--
}
