package flow

// lru is a bounded map that makes room by dropping what was touched longest ago. Values
// stay at their address until they are dropped.
type lru[K comparable, V any] struct {
	max     int
	index   map[K]*entry[K, V]
	root    entry[K, V] // sentinel: root.next is the latest, root.prev the oldest
	evicted uint64
}

type entry[K comparable, V any] struct {
	key        K
	value      V
	prev, next *entry[K, V]
}

func newLRU[K comparable, V any](max int) *lru[K, V] {
	l := &lru[K, V]{max: max, index: make(map[K]*entry[K, V])}
	l.root.prev, l.root.next = &l.root, &l.root
	return l
}

// get finds key and makes it the latest; nil when absent.
func (l *lru[K, V]) get(key K) *V {
	e := l.index[key]
	if e == nil {
		return nil
	}
	l.unlink(e)
	l.pushFront(e)
	return &e.value
}

// peek finds key and leaves the order alone.
func (l *lru[K, V]) peek(key K) *V {
	if e := l.index[key]; e != nil {
		return &e.value
	}
	return nil
}

// add gives the value of key, a zero one that is the latest where key was absent.
func (l *lru[K, V]) add(key K) (v *V, fresh bool) {
	if v := l.get(key); v != nil {
		return v, false
	}
	var e *entry[K, V]
	if len(l.index) >= l.max {
		e = l.root.prev
		l.unlink(e)
		delete(l.index, e.key)
		l.evicted++
		var zero V
		e.value = zero
	} else {
		e = new(entry[K, V])
	}
	e.key = key
	l.index[key] = e
	l.pushFront(e)
	return &e.value, true
}

func (l *lru[K, V]) unlink(e *entry[K, V]) {
	e.prev.next, e.next.prev = e.next, e.prev
}

func (l *lru[K, V]) pushFront(e *entry[K, V]) {
	e.prev, e.next = &l.root, l.root.next
	e.prev.next, e.next.prev = e, e
}
