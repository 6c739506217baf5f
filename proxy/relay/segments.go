package relay

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"hasp/proxy/relay/record"
)

const (
	maxSegments = 64
	// segmentCopy is up to how many bytes are cheaper moved than written apart.
	segmentCopy = 2 << 10
)

// segment is a part of a loop's buffer.
type segment struct{ at, n int }

// put has n bytes of the buffer sent, which come after those that were put
// before. They are moved next to those if that is cheaper.
func (l *loop) put(at, n int) {
	if k := len(l.segs); k > 0 {
		last := &l.segs[k-1]
		end := last.at + last.n
		if at != end && (n <= segmentCopy || k == maxSegments) {
			copy(l.buf[end:], l.buf[at:at+n])
			at = end
		}
		if at == end {
			last.n += n
			return
		}
	}
	l.segs = append(l.segs, segment{at, n})
}

// size is how many bytes were put.
func (l *loop) size() int {
	n := 0
	for _, s := range l.segs {
		n += s.n
	}
	return n
}

// write writes what was put.
func (l *loop) write(fd int) (int, syscall.Errno) {
	if len(l.segs) == 1 {
		s := l.segs[0]
		return writeFD(fd, l.buf[s.at:s.at+s.n])
	}
	for i, s := range l.segs {
		l.iov[i].Base = &l.buf[s.at]
		l.iov[i].SetLen(s.n)
	}
	return vector(syscall.SYS_WRITEV, fd, l.iov[:len(l.segs)])
}

// keep is what was put, but for its first n bytes.
func (l *loop) keep(n int) *[]byte {
	b := room(l.size() - n)
	for _, s := range l.segs {
		skip := min(n, s.n)
		n -= skip
		*b = append(*b, l.buf[s.at+skip:s.at+s.n]...)
	}
	return b
}

// readSlots reads plaintext to where it can be sealed.
func (l *loop) readSlots(fd, slots int) (int, syscall.Errno) {
	if slots == 1 {
		return readFD(fd, l.slot(loopFront))
	}
	return vector(syscall.SYS_READV, fd, l.slots[:slots])
}

// fill copies plaintext to the buffer, in slots if it is to be sealed there.
func (l *loop) fill(p []byte, slots bool) (n int) {
	if !slots {
		return copy(l.buf[loopFront:][:fewSlots*record.MaxPlaintext], p)
	}
	for i := range fewSlots {
		n += copy(l.slot(loopFront+i*slotSize), p[n:])
	}
	return n
}

// slot is where the plaintext of a record at the buffer's at is.
func (l *loop) slot(at int) []byte { return l.buf[at+record.HeaderLen:][:record.MaxPlaintext] }

// pour is a copy of n bytes of plaintext that were filled in from at on.
func (l *loop) pour(at, n int, slots bool) []byte {
	if !slots {
		return append([]byte(nil), l.buf[at:at+n]...)
	}
	p := make([]byte, 0, n)
	for ; len(p) < n; at += slotSize {
		p = append(p, l.slot(at)[:min(n-len(p), record.MaxPlaintext)]...)
	}
	return p
}

func vector(call uintptr, fd int, v []unix.Iovec) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&v[0])), uintptr(len(v)))
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}
