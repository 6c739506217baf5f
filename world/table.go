package world

import (
	"hash/maphash"
	"maps"
)

// pieces of a table. A change copies one of them.
const pieces = 512

// table is a map that never changes: the next one is made of it by an edit, and
// shares with it all pieces without a change.
type table[K comparable, V any] struct {
	seed   maphash.Seed
	pieces *[pieces]map[K]V // nil in an empty one
}

func (t table[K, V]) get(k K) V {
	if t.pieces == nil {
		var none V
		return none
	}
	return t.pieces[maphash.Comparable(t.seed, k)%pieces][k]
}

// edit is a table on its way to the next one.
type edit[K comparable, V any] struct {
	table[K, V]
	own [pieces]bool // pieces that nobody else has
}

func (t table[K, V]) edit() *edit[K, V] {
	e := &edit[K, V]{table: t}
	if t.pieces == nil {
		e.table = table[K, V]{seed: maphash.MakeSeed(), pieces: new([pieces]map[K]V)}
	} else {
		all := *t.pieces
		e.pieces = &all
	}
	return e
}

// piece of a key, to write to.
func (e *edit[K, V]) piece(k K) map[K]V {
	i := maphash.Comparable(e.seed, k) % pieces
	if !e.own[i] {
		e.own[i] = true
		if e.pieces[i] == nil {
			e.pieces[i] = map[K]V{}
		} else {
			e.pieces[i] = maps.Clone(e.pieces[i])
		}
	}
	return e.pieces[i]
}

func (e *edit[K, V]) set(k K, v V) { e.piece(k)[k] = v }
func (e *edit[K, V]) drop(k K)     { delete(e.piece(k), k) }

// lists is a table of lists, which are never changed in place either.
type lists[K comparable, V any] struct{ *edit[K, []*V] }

// put v where it belongs in the list of k.
func (l lists[K, V]) put(k K, v *V, order func(a, b *V) int) {
	old := l.get(k)
	i := len(old)
	for i > 0 && order(v, old[i-1]) < 0 {
		i--
	}
	now := make([]*V, 0, len(old)+1)
	l.set(k, append(append(append(now, old[:i]...), v), old[i:]...))
}

// take v out of the list of k.
func (l lists[K, V]) take(k K, v *V) {
	var now []*V
	for _, o := range l.get(k) {
		if o != v {
			now = append(now, o)
		}
	}
	if len(now) == 0 {
		l.drop(k)
	} else {
		l.set(k, now)
	}
}
