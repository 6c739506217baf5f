package relay

import (
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hasp/proxy/relay/record"
)

// A flow reads more at a time while its source has more, and little again when it
// has not, when others are to be served, and when too much is unsent.
func TestPass(t *testing.T) {
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	f := &flow{pair: &pair{loop: l}, src: &end{}}
	full := func(times int) {
		for range times {
			f.learn(1<<20, 1<<20)
		}
	}
	for _, tc := range []struct {
		name string
		do   func()
		want int
	}{
		{"at first", func() {}, 1},
		{"after a read that was full", func() { full(1) }, 2 * fewSlots},
		{"after many", func() { full(20) }, loopSlots},
		{"after one that was half full", func() { f.learn(1<<19, 1<<20) }, loopSlots},
		{"with events of both its ends", func() { l.busy = 2 }, loopSlots},
		{"with others to serve", func() { l.busy = 4 }, loopSlots / 2},
		{"with many to serve", func() { l.busy = 1000 }, fewSlots},
		{"alone again", func() { l.busy = 1 }, loopSlots},
		{"while much is unsent", func() { l.owed = owedMost + 1 }, fewSlots},
		{"when it is sent", func() { l.owed = 0 }, loopSlots},
		{"after a message", func() { f.learn(1000, 1<<20) }, loopSlots / 4},
		{"after two", func() { f.learn(1000, 1<<20) }, fewSlots},
		{"after three", func() { f.learn(1000, 1<<20) }, 1},
		{"of records, which must fit", func() { f.src.in = new(record.Opener) }, fewSlots},
	} {
		tc.do()
		if got := f.pass(); got != tc.want {
			t.Errorf("%s: %d slots, want %d", tc.name, got, tc.want)
		}
	}
}

// Many records, which cost much by the byte, are read little at a time.
func TestPassOfSmallRecords(t *testing.T) {
	for _, tc := range []struct{ records, size, want int }{
		{loopSlots, record.MaxPlaintext, loopSlots},
		{loopBuffer / 1500, 1400, loopSlots},
		{manyRecords + 1, 1, 0},
	} {
		l, err := newLoop()
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		in, out := keys(t, false), keys(t, true)
		at := loopFront
		for range tc.records {
			n, err := out.out.Seal(l.buf[at:], tc.size, record.TypeApplicationData)
			if err != nil {
				t.Fatal(err)
			}
			at += n
		}
		f := &flow{pair: &pair{loop: l}, src: &end{in: in.in}, dst: &end{}, slots: loopSlots}
		if left, moved, ok := f.open(loopFront, at-loopFront); len(left) > 0 || moved != tc.records*tc.size || !ok || f.slots != tc.want {
			t.Errorf("%+v: %d bytes are left, %d moved, %v, and %d slots", tc, len(left), moved, ok, f.slots)
		}
	}
}

// keys are a client's or a server's, of secrets that are always the same.
func keys(t testing.TB, client bool) *left {
	t.Helper()
	var s record.Secrets
	for _, who := range []string{"CLIENT", "SERVER"} {
		fmt.Fprintf(&s, "%s_TRAFFIC_SECRET_0 %064d %064d\n", who, 0, 1)
	}
	in, out, err := s.Keys(tls.TLS_AES_128_GCM_SHA256, client)
	if err != nil {
		t.Fatal(err)
	}
	return &left{fd: -1, in: in, out: out}
}

// What bulk used is given back when there was none for a while, the rest stays;
// nothing else has to happen for that.
func TestRelieve(t *testing.T) {
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	l.dozer.timer = time.NewTimer(time.Hour)
	last := len(l.buf) - 1
	l.buf[0], l.buf[last], l.big = 1, 1, true
	if l.sweep(); l.buf[last] != 1 || !l.dozer.armed {
		t.Errorf("while it was used, the last byte is %d; it is to be looked at again: %v", l.buf[last], l.dozer.armed)
	}
	if l.sweep(); l.buf[last] != 0 || l.buf[0] != 1 || l.dozer.armed {
		t.Errorf("the buffer's first byte is %d, its last %d; want 1 and, given back, 0; to be looked at again: %v", l.buf[0], l.buf[last], l.dozer.armed)
	}
}

// The memory of what a destination has not taken is owed until that was sent or the
// pair is over, and what it did take is counted.
func TestOwed(t *testing.T) {
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	if err := unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 64<<10); err != nil {
		t.Fatal(err)
	}
	var m Meter
	f := &flow{pair: &pair{loop: l, meter: &m}, src: &end{}, dst: &end{fd: fds[0]}}
	const n = loopSlots * record.MaxPlaintext
	l.segs = []segment{{loopFront, n}}
	if done, err := f.write(n); done || err != nil {
		t.Fatalf("done %v, %v", done, err)
	}
	if l.owed != cap(*f.unsent) || m.Received.Load() != 0 {
		t.Errorf("%d bytes are owed, of %d; %d are sent", l.owed, cap(*f.unsent), m.Received.Load())
	}
	took := n - len(*f.unsent)
	f.drop()
	if l.owed != 0 || took == 0 || m.Received.Load() != uint64(took) {
		t.Errorf("%d bytes are owed to nobody; %d are sent, of %d that were taken", l.owed, m.Received.Load(), took)
	}
}
