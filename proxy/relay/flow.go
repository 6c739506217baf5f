package relay

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"hasp/proxy/relay/record"
)

// flowRounds is how often a flow fills the loop's buffer before others have
// their turn.
const flowRounds = 2

// flowMessages is how many messages of the handshake are taken between two looks
// at others: a key update costs a hundred times what it costs to send.
const flowMessages = 16

// manyRecords in what is read at a time are so small that they take the longer the
// more of them are.
const manyRecords = 512

// flow is the bytes from one end of a pair to the other. While its destination
// has not taken what was read, nothing more is.
type flow struct {
	pair     *pair
	src, dst *end

	waiting   []byte        // plaintext that comes before what is read
	letGo     chan struct{} // not nil while the observer holds waiting: ends that
	unsent    *[]byte       // for the destination, from sent on
	sent      int32
	uncounted int32 // bytes of the source that are in unsent
	slots     int   // how much is read at a time; see pass

	broke    error        // the source broke, after what is unsent
	alert    record.Alert // what it is to be told of that, CloseNotify for nothing
	end      bool         // the source's stream has ended
	notified bool         // the destination was told, or is about to be
	over     bool         // nothing more will be done
}

// pump moves what can be moved, and has the loop come back if there is more.
func (f *flow) pump() {
	if !f.pair.active {
		f.pair.stir()
	}
	for range flowRounds {
		switch {
		case f.over || f.pair.dead || f.pair.asked.Load() || !f.flush() || f.letGo != nil:
			return
		case len(f.waiting) > 0:
		case f.broke != nil:
			if f.alert != record.CloseNotify {
				f.src.say(f.alert)
			}
			f.pair.fail(f.src, "read", f.broke)
			return
		case f.end:
			f.finish()
			return
		}
		more := false
		if f.src.in == nil || len(f.waiting) > 0 {
			more = f.movePlain()
		} else {
			more = f.moveTLS()
		}
		if !more {
			return
		}
		if f.slots > fewSlots && f.src.readable {
			break // it has had its share
		}
	}
	f.pair.loop.later(f.pair)
}

// movePlain moves plaintext, of a plain source or what waits. More is true when
// there may be more to move now.
func (f *flow) movePlain() (more bool) {
	l := f.pair.loop
	n := 0
	if len(f.waiting) > 0 {
		n = l.fill(f.waiting, f.dst.out != nil)
		f.waiting = f.waiting[n:]
	} else if n = f.receive(); n == 0 {
		return f.end || f.broke != nil
	}
	l.segs = l.segs[:0]
	moved := 0
	for at := loopFront; moved < n; at += slotSize {
		p := l.buf[loopFront : loopFront+n]
		if f.dst.out != nil {
			p = l.buf[at+record.HeaderLen:][:min(n-moved, record.MaxPlaintext)]
		}
		if hold := f.observe(p); hold != nil {
			f.hold(hold, l.pour(at, n-moved, f.dst.out != nil))
			break
		}
		if f.dst.out == nil {
			l.put(at, n)
		} else if !f.seal(at, len(p)) {
			return false
		}
		moved += len(p)
	}
	return f.send(moved) && (f.src.readable || len(f.waiting) > 0 || f.src.in != nil)
}

// receive reads from a plain source to where fill would put it.
func (f *flow) receive() (n int) {
	l, e := f.pair.loop, f.src
	if !e.readable {
		return 0
	}
	var errno syscall.Errno
	slots := f.pass()
	size := slots * record.MaxPlaintext
	if f.dst.out != nil {
		n, errno = l.readSlots(e.fd, slots)
	} else {
		n, errno = readFD(e.fd, l.buf[loopFront:][:size])
	}
	f.took(n, size, errno)
	return n
}

// took notes what reading the source has come to.
func (f *flow) took(n, size int, errno syscall.Errno) {
	e := f.src
	switch {
	case errno == syscall.EAGAIN:
		e.readable, e.hungUp = false, false
	case errno != 0:
		f.broke = os.NewSyscallError("read", errno)
	case n == 0:
		f.end = true
	default:
		// Less than there was room for is all there was: what comes after is told
		// anew. But an end that was told already is not, nor what follows urgent data.
		e.readable = n == size || e.hungUp || e.urgent
		f.learn(n, size)
		f.pair.meter.lastSeen.Store(f.pair.loop.now)
	}
}

// moveTLS opens the records that are there and moves what is in them.
func (f *flow) moveTLS() (more bool) {
	l, e := f.pair.loop, f.src
	b := l.buf[loopFront:]
	n := 0
	if e.raw != nil {
		n = copy(b, *e.raw)
	}
	if !whole(b[:n]) {
		if !e.readable {
			return false
		}
		b = b[:f.pass()*slotSize]
		got, errno := readFD(e.fd, b[n:])
		f.took(got, len(b)-n, errno)
		if got == 0 {
			switch {
			case f.end && n > 0: // as crypto/tls says it
				f.broke = io.ErrUnexpectedEOF
			case f.end && e.whole:
				f.broke = errTruncated
			}
			return f.end || f.broke != nil
		}
		n += got
	}
	unstash(e.raw)
	e.raw = nil
	l.segs = l.segs[:0]
	left, moved, ok := f.open(loopFront, n)
	if !ok {
		return false
	}
	e.raw = stash(left)
	return f.send(moved)
}

// whole tells whether b begins with a whole record, or with what is none.
func whole(b []byte) bool {
	if len(b) < record.HeaderLen {
		return false
	}
	size, err := record.Size(b)
	return err != nil || len(b) >= size
}

// open opens the n bytes of records at l.buf[at:], and has what is in them sent.
// It returns what is left, and how many bytes of plaintext are on their way; ok
// is false when the pair is over.
func (f *flow) open(at, n int) (left []byte, moved int, ok bool) {
	l, e := f.pair.loop, f.src
	b := l.buf[:at+n]
	messages, records := 0, 0
	for whole(b[at:]) && f.broke == nil && !f.end && f.letGo == nil && messages < flowMessages {
		records++
		size, err := record.Size(b[at:])
		if err != nil {
			f.refuse(err)
			break
		}
		p, typ, err := e.in.Open(b[at : at+size])
		switch {
		case err != nil:
			f.refuse(err)
		case typ == record.TypeAlert:
			if err := toldBy(p); err == io.EOF {
				f.end = true
			} else {
				f.broke = err
			}
		case typ == record.TypeHandshake:
			messages++
			answer, err := e.in.Handshake(p)
			if err != nil {
				f.refuse(err)
			}
			e.answer = e.answer || answer
		case len(p) == 0 && e.inBand:
			f.end, e.kept = true, true
		case len(p) > 0:
			if hold := f.observe(p); hold != nil {
				f.hold(hold, bytes.Clone(p))
				break
			}
			if f.dst.out == nil {
				l.put(at+record.HeaderLen, len(p))
			} else if !f.seal(at, len(p)) {
				return nil, 0, false
			}
			moved += len(p)
		}
		at += size
	}
	if records > manyRecords || messages == flowMessages {
		f.slots = 0 // others would wait too long for as many as come half a megabyte at a time
	}
	if f.broke != nil || f.end && !e.kept {
		return nil, moved, true
	}
	return b[at:], moved, true
}

// refuse is for a record that is none: the peer is told once what came before it
// is on its way.
func (f *flow) refuse(err error) {
	f.alert = record.InternalError
	errors.As(err, &f.alert)
	f.broke = local(f.alert)
}

// observe shows p to the observer.
func (f *flow) observe(p []byte) (hold <-chan struct{}) {
	switch o := f.pair.sees; {
	case o == nil:
	case f.src.upstream:
		o.FromUpstream(p)
	default:
		return o.FromClient(p)
	}
	return nil
}

// count notes that bytes have passed.
func (f *flow) count(n int) {
	if f.src.upstream {
		f.pair.meter.Sent.Add(uint64(n))
	} else {
		f.pair.meter.Received.Add(uint64(n))
	}
}

// hold has p wait, before all else that waits.
func (f *flow) hold(until <-chan struct{}, p []byte) {
	f.waiting = append(p, f.waiting...)
	letGo := make(chan struct{})
	f.letGo = letGo
	go func() {
		select {
		case <-until:
			f.pair.release()
		case <-letGo:
		}
	}()
}

// seal seals n bytes at a record's place in the buffer, and has it sent; false
// when the pair is over. A key update comes before the first record if one is due.
// The peer's wish for one has the time until then: however often it asks, one is
// enough (RFC 8446, section 4.6.3).
func (f *flow) seal(at, n int) bool {
	l, e := f.pair.loop, f.dst
	var err error
	if len(l.segs) == 0 && (e.answer || e.out.Due()) {
		e.answer = false
		front := loopFront - record.UpdateSize
		var size int
		if size, err = e.out.Update(l.buf[front:loopFront], false); err == nil {
			l.put(front, size)
		}
	}
	size := 0
	if err == nil {
		size, err = e.out.Seal(l.buf[at:], n, record.TypeApplicationData)
	}
	if err != nil {
		f.pair.fail(e, "write", err)
		return false
	}
	l.put(at, size)
	return true
}

// send writes what was put together, of which n bytes are the source's; false
// when the destination does not take all of it now, or is broken.
func (f *flow) send(n int) bool {
	done, err := f.write(n)
	if err != nil {
		f.pair.fail(f.dst, "write", err)
	}
	return done
}

// write is send for who bears a destination that is broken.
func (f *flow) write(n int) (done bool, err error) {
	l, e := f.pair.loop, f.dst
	size := l.size()
	if size == 0 {
		return true, nil
	}
	w, errno := l.write(e.fd)
	switch {
	case errno != 0 && errno != syscall.EAGAIN:
		return false, os.NewSyscallError("write", errno)
	case w == size:
		f.count(n)
		return true, nil
	}
	e.writable = false
	f.unsent, f.sent, f.uncounted, f.slots = l.keep(w), 0, int32(n), f.slots/2
	l.owed += cap(*f.unsent)
	return false, nil
}

// flush sends what is unsent; false while the destination does not take it.
func (f *flow) flush() bool {
	if f.unsent == nil {
		return true
	}
	if !f.dst.writable {
		return false
	}
	n, errno := writeFD(f.dst.fd, (*f.unsent)[f.sent:])
	if errno != 0 && errno != syscall.EAGAIN {
		f.pair.fail(f.dst, "write", os.NewSyscallError("write", errno))
		return false
	}
	if f.sent += int32(n); int(f.sent) < len(*f.unsent) {
		f.dst.writable = false
		return false
	}
	f.count(int(f.uncounted))
	f.settle()
	return true
}

// settle gives back the memory of what was sent, or is not to be any more.
func (f *flow) settle() {
	if f.unsent != nil {
		f.pair.loop.owed -= cap(*f.unsent)
		unstash(f.unsent)
		f.unsent = nil
	}
}

// finish lets the end of the source travel on.
func (f *flow) finish() {
	if !f.notified {
		if err := f.ordered(); err != nil {
			f.pair.fail(f.src, "read", err)
			return
		}
		f.notified = true
		if !f.dst.sayEnd() {
			return // flush comes back
		}
	}
	f.dst.shut, f.over = true, true
	switch {
	case f.dst.from().over:
		f.pair.finish() // the end of a stream that is closed is told by closing it
	case !f.dst.inBand:
		// A failure here means that the destination is broken, and then the flow
		// that comes from it says so.
		_ = unix.Shutdown(f.dst.fd, unix.SHUT_WR)
	}
}

// ordered is nil when the end of the source's stream is one.
func (f *flow) ordered() error {
	if f.src.in == nil && !f.src.shut && isClosed(f.src.fd) {
		return syscall.ECONNRESET
	}
	if e, ok := f.pair.sees.(Ender); ok && f.src.upstream {
		return e.UpstreamEnded()
	}
	return nil
}

// sayEnd tells the peer that our stream has ended; false when that is unsent as
// yet.
func (e *end) sayEnd() bool {
	if !e.inBand {
		return e.say(record.CloseNotify)
	}
	f, l := e.to(), e.pair.loop
	l.segs = l.segs[:0]
	return f.seal(0, 0) && f.send(0)
}

// say sends an alert; false when it is unsent as yet.
func (e *end) say(a record.Alert) bool {
	f, l := e.to(), e.pair.loop
	if e.out == nil || e.shut || f.unsent != nil {
		return true
	}
	n, err := e.out.Alert(l.buf, a)
	if err != nil {
		return true // one was sent before
	}
	l.segs = append(l.segs[:0], segment{0, n})
	done, err := f.write(0)
	return done || err != nil
}

// drop gives memory back.
func (f *flow) drop() {
	if f.unsent != nil && f.dst.out == nil { // of records nobody knows
		f.count(int(f.uncounted) - (len(*f.unsent) - int(f.sent)))
	}
	f.settle()
	f.waiting = nil
	if f.letGo != nil {
		close(f.letGo)
		f.letGo = nil
	}
}

// The calls for sockets cost less than read(2) and write(2), which look at files'
// positions and watchers first.

func readFD(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}

func writeFD(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), syscall.MSG_NOSIGNAL, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}
