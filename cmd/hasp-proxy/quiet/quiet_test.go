package quiet

import (
	"errors"
	"testing"
	"time"
)

// fakeProcess is told what it uses.
type fakeProcess struct {
	took   time.Duration
	held   int
	err    error
	shrunk int
}

func (f *fakeProcess) usage() (time.Duration, int, error) { return f.took, f.held, f.err }
func (f *fakeProcess) shrink()                            { f.shrunk++ }

func TestKeeper(t *testing.T) {
	const mb = 1 << 20
	var k keeper
	p := new(fakeProcess)
	now := time.Unix(1000, 0)
	for i, step := range []struct {
		after time.Duration
		busy  time.Duration // since the look before
		held  int
		err   error
		want  int // how often it has shrunk by now
		why   string
	}{
		{held: 30 * mb, want: 0, why: "the first look has nothing to compare with"},
		{after: lookEvery, busy: time.Second, held: 30 * mb, want: 0, why: "busy"},
		{after: lookEvery, busy: 20 * time.Millisecond, held: 30 * mb, want: 1, why: "quiet for the first time"},
		{after: lookEvery, held: 10 * mb, want: 1, why: "what was needed again is seen"},
		{after: lookEvery, held: 11 * mb, want: 1, why: "grown too little"},
		{after: lookEvery, busy: lookEvery, held: 90 * mb, want: 1, why: "grown, and busy"},
		{after: lookEvery, held: 90 * mb, err: errors.New("no descriptors"), want: 1, why: "not known"},
		{after: lookEvery, held: 90 * mb, want: 2, why: "grown, and quiet again"},
		{after: lookEvery, held: 80 * mb, want: 2, why: "most is in use"},
		{after: lookEvery, held: 85 * mb, want: 2, why: "grown by less than an eighth"},
		{after: lookEvery, held: 95 * mb, want: 3, why: "grown by more"},
		{after: lookEvery, held: 20 * mb, want: 3, why: "seen"},
		{after: collectEvery, held: 20 * mb, want: 4, why: "the runtime would collect"},
	} {
		now = now.Add(step.after)
		p.took += step.busy
		p.held, p.err = step.held, step.err
		k.look(now, p)
		if p.shrunk != step.want {
			t.Errorf("step %d, %s: shrunk %d times, want %d", i, step.why, p.shrunk, step.want)
		}
	}
}
