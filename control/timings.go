package control

import (
	"sync"
	"time"
)

// keepTimings is how many generations' times are remembered.
const keepTimings = 256

// Timing is when one generation came about.
type Timing struct {
	Generation uint64    `json:"generation"`
	Seen       time.Time `json:"seen"`              // its first change arrived from the API
	Built      time.Time `json:"built"`             // its World was complete
	Enforced   time.Time `json:"enforced,omitzero"` // every connected proxy had acknowledged it
}

// Took is the time from a change's arrival to its enforcement everywhere, 0
// while that is under way.
func (t Timing) Took() time.Duration {
	if t.Enforced.IsZero() || t.Seen.IsZero() {
		return 0
	}
	return t.Enforced.Sub(t.Seen).Round(10 * time.Microsecond)
}

// timings remembers the last generations, oldest first.
type timings struct {
	mu   sync.Mutex
	list []Timing
}

func (t *timings) built(generation uint64, seen, built time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) == keepTimings {
		t.list = append(t.list[:0], t.list[1:]...)
	}
	t.list = append(t.list, Timing{Generation: generation, Seen: seen, Built: built})
}

// enforced marks every generation up to the given one.
func (t *timings) enforced(generation uint64, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.list {
		if t.list[i].Generation <= generation && t.list[i].Enforced.IsZero() {
			t.list[i].Enforced = at
		}
	}
}

func (t *timings) last() (Timing, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) == 0 {
		return Timing{}, false
	}
	return t.list[len(t.list)-1], true
}
