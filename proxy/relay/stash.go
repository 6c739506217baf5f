package relay

import "sync"

// Bytes that a loop cannot move yet are kept in memory from pools, by size.
var stashes = [...]struct {
	size int
	pool sync.Pool
}{{size: 2 << 10}, {size: 17 << 10}, {size: loopFront + fewSlots*slotSize}, {size: loopBuffer}}

// stash is a copy of p, nil for nothing.
func stash(p []byte) *[]byte {
	if len(p) == 0 {
		return nil
	}
	b := room(len(p))
	*b = append(*b, p...)
	return b
}

// room is memory for n bytes, at most loopBuffer.
func room(n int) *[]byte {
	for i := range stashes {
		s := &stashes[i]
		if n > s.size {
			continue
		}
		if b, ok := s.pool.Get().(*[]byte); ok {
			*b = (*b)[:0]
			return b
		}
		b := make([]byte, 0, s.size)
		return &b
	}
	b := make([]byte, 0, n) // no loop asks for so much
	return &b
}

// unstash gives the memory back.
func unstash(b *[]byte) {
	if b == nil {
		return
	}
	for i := range stashes {
		if cap(*b) == stashes[i].size {
			stashes[i].pool.Put(b)
			return
		}
	}
}
