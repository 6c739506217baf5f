package relay

import (
	"testing"

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

// What bulk used is given back when there was none for a while, the rest stays.
func TestRelieve(t *testing.T) {
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	last := len(l.buf) - 1
	l.buf[0], l.buf[last], l.big = 1, 1, true
	if l.relieve(); l.buf[last] != 1 {
		t.Error("given back while it was used")
	}
	if l.relieve(); l.buf[last] != 0 || l.buf[0] != 1 {
		t.Errorf("the buffer's first byte is %d, its last %d; want 1 and, given back, 0", l.buf[0], l.buf[last])
	}
}

// What a destination has not taken is owed until it was sent or the pair is over.
func TestOwed(t *testing.T) {
	l, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	f := &flow{pair: &pair{loop: l}}
	for range 2 {
		f.unsent = stash(make([]byte, 1000))
		l.owed += 1000
		f.drop()
	}
	if l.owed != 0 {
		t.Errorf("%d bytes are owed to nobody", l.owed)
	}
}
