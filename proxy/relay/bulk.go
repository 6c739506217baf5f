package relay

import (
	"os"

	"golang.org/x/sys/unix"
)

// A loop's buffer is a mapping of its own: of what bulk has not touched there is
// no memory, and what it has is given back.

func mapBuffer() ([]byte, error) {
	b, err := unix.Mmap(-1, 0, loopBuffer, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return b, os.NewSyscallError("mmap", err)
}

// pass is how many slots a flow may read to now.
func (f *flow) pass() int {
	l := f.pair.loop
	n := min(f.slots, 2*loopSlots/l.busy) // one pair often has events of both ends
	switch {
	case f.slots == 0 && f.src.in == nil:
		return 1 // most messages fit, and that is the cheapest call
	case n <= fewSlots || l.owed > owedMost:
		return fewSlots
	}
	l.big = true
	return n
}

// learn has a flow read more at a time while there is more than it asks for, of
// which n bytes came, and less when that is far from it.
func (f *flow) learn(n, asked int) {
	switch {
	case n == asked:
		f.slots = min(2*max(f.slots, fewSlots), loopSlots)
	case n < asked/8:
		f.slots /= 4
	}
}

// relieve gives back what bulk has used, when there was none since the last time.
func (l *loop) relieve() {
	if l.large && !l.big {
		page := os.Getpagesize()
		few := (loopFront + fewSlots*slotSize + page - 1) / page * page
		_ = unix.Madvise(l.buf[few:], unix.MADV_DONTNEED) // or it stays
	}
	l.large, l.big = l.big, false
}
