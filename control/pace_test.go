package control

import (
	"testing"
	"time"
)

// Listeners are told of news as often as is cheap, and now and then in any case.
func TestPace(t *testing.T) {
	f := newFacts(1, nil)
	for _, c := range []struct{ took, want time.Duration }{
		{time.Millisecond, eventPause},
		{50 * time.Millisecond, time.Second},
		{time.Minute, heartbeat},
	} {
		f.took = c.took
		if got := f.pace(); got != c.want {
			t.Errorf("a snapshot takes %v: %v apart, want %v", c.took, got, c.want)
		}
	}
}
