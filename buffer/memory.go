package buffer

// maxKeys bounds what is remembered of waiting keys: a key that was pushed out merely
// does not coalesce.
const maxKeys = 4096

// keyIndex knows the latest record of each coalescing key.
type keyIndex struct {
	ids   map[string]ID
	order []string // insertion order, a ring once full
	head  int
}

func (x *keyIndex) get(key string) (ID, bool) {
	if key == "" {
		return 0, false
	}
	id, ok := x.ids[key]
	return id, ok
}

func (x *keyIndex) set(key string, id ID) {
	if x.ids == nil {
		x.ids = make(map[string]ID)
	}
	if _, ok := x.ids[key]; !ok {
		if len(x.order) < maxKeys {
			x.order = append(x.order, key)
		} else {
			delete(x.ids, x.order[x.head])
			x.order[x.head] = key
			x.head = (x.head + 1) % maxKeys
		}
	}
	x.ids[key] = id
}

// delivered is a record that left the file for a good reason.
type delivered struct {
	id    ID
	value []byte
}

// recentRing keeps the last delivered records up to max bytes.
type recentRing struct {
	max, size int
	items     []delivered
}

func (r *recentRing) add(d delivered) {
	r.items = append(r.items, d)
	r.size += len(d.value)
	n := 0
	for r.size > r.max && n < len(r.items) {
		r.size -= len(r.items[n].value)
		n++
	}
	r.items = append(r.items[:0], r.items[n:]...)
}
