package parse

// recent remembers what came last: at least the last half keys, at most twice as many. So whoever brings up many
// keys pushes others out only after half of them, and never all at once. The zero value, given a half, is ready.
type recent[K comparable, V any] struct {
	half       int
	young, old map[K]V
}

func (r *recent[K, V]) get(k K) (V, bool) {
	if v, ok := r.young[k]; ok {
		return v, true
	}
	v, ok := r.old[k]
	return v, ok
}

func (r *recent[K, V]) put(k K, v V) {
	if len(r.young) >= r.half {
		if _, ok := r.young[k]; !ok {
			r.old, r.young = r.young, nil
		}
	}
	if r.young == nil {
		r.young = make(map[K]V)
	}
	r.young[k] = v
}

func (r *recent[K, V]) remove(k K) {
	delete(r.young, k)
	delete(r.old, k)
}
