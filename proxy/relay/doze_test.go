package relay

import (
	"io"
	"testing"
	"time"
)

// Pairs that are silent doze, and go on when either side says something.
func TestSilentPairsDoze(t *testing.T) {
	f := newFast(t)
	f.doze = time.Millisecond
	c, client := tlsPair(t)
	u, upstream := tlsClientPair(t)
	done := startWith(f)(client, upstream, new(Meter), nil)
	dozing := func() (n int32) {
		for _, l := range f.loops {
			n += l.dozer.pairs.Load()
		}
		return n
	}
	for _, way := range [][2]peer{{c, u}, {u, c}, {u, c}} {
		for end := time.Now().Add(time.Minute); dozing() != 1; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("a silent pair does not doze")
			}
		}
		write(t, way[0], "up")
		var b [2]byte
		if _, err := io.ReadFull(way[1], b[:]); err != nil || string(b[:]) != "up" {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	closeWrite(t, c)
	closeWrite(t, u)
	if got := readAll(t, u) + readAll(t, c); got != "" {
		t.Errorf("got %q", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := dozing(); n != 0 {
		t.Errorf("%d pairs that have ended doze", n)
	}
}
