package server

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestTally: whatever becomes of proxies, the counts are those of their statuses.
func TestTally(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	s := &Server{proxies: newRegistry(time.Now)}
	var streams []*entry
	for step := range 5000 {
		if len(streams) == 0 || r.IntN(8) == 0 {
			streams = append(streams, s.proxies.connect(fmt.Sprint("shop/", r.IntN(10)), "id"))
		}
		e, g := streams[r.IntN(len(streams))], uint64(r.IntN(5))
		switch r.IntN(7) {
		case 0:
			s.proxies.disconnect(e)
			streams = slices.DeleteFunc(streams, func(o *entry) bool { return o == e })
		case 1:
			s.proxies.sent(e, g)
		case 2:
			s.proxies.acked(e, g, r.IntN(2) == 0)
		case 3:
			s.proxies.passed(e, g)
		case 4:
			s.proxies.nack(e, "type", "why", g)
		case 5:
			s.proxies.failed(e, errors.New("why"))
		case 6:
			s.Forget(e.status.Node)
		}
		var late, gone int
		var troubled bool
		for _, p := range s.Status() {
			switch {
			case !p.Connected:
				gone++
				continue
			case p.AckedGeneration < 3:
				late++
			}
			troubled = troubled || p.Nack != nil || p.Error != ""
		}
		gotLate, gotTroubled := s.Late(3)
		if gotLate != late || gotTroubled != troubled || len(s.Gone()) != gone {
			t.Fatalf("step %d: %d late, trouble %t, %d gone; want %d, %t, %d", step, gotLate, gotTroubled, len(s.Gone()), late, troubled, gone)
		}
	}
}
