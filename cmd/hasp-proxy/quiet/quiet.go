// Package quiet keeps a proxy small that has nothing to do.
package quiet

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// lookEvery is how often a proxy looks whether it is quiet.
	lookEvery = 5 * time.Second
	// quietShare of one processor is what a quiet proxy takes at most.
	quietShare = 0.01
	// A process that has grown by this many bytes, and by this part of what it
	// was, is worth a collection.
	worthwhile     = 1 << 20
	worthwhilePart = 8
	// collectEvery is less than the two minutes after which the runtime collects
	// whether or not there is anything to collect, and so takes its place.
	collectEvery = 100 * time.Second
)

// GiveBack keeps this process small, until ctx ends: when it has nothing to do it
// gives back to the kernel what it took to start, for a new configuration or
// in busier times. (The runtime gives back some of its heap, in minutes, and
// never the program's own pages.)
func GiveBack(ctx context.Context) {
	var p process = self{}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var k keeper
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			k.look(now, p)
		}
	}
}

// process is the one this is.
type process interface {
	// usage is the processor time it took so far, and the memory it holds now.
	usage() (time.Duration, int, error)
	// shrink collects garbage and gives back what can be given back.
	shrink()
}

// keeper remembers what it saw.
type keeper struct {
	at   time.Time // of the last look
	took time.Duration
	// shrunk is when the memory was given back, and held what was there again at
	// the look after it; 0 until then.
	shrunk time.Time
	held   int
}

// look gives back if the process has been quiet since the last look, and has
// grown or would be collected anyway.
func (k *keeper) look(now time.Time, p process) {
	took, held, err := p.usage()
	if err != nil {
		return // no such numbers here, or no descriptor left
	}
	passed, busy := now.Sub(k.at), took-k.took
	first := k.at.IsZero()
	k.at, k.took = now, took
	if k.held == 0 || held < k.held {
		k.held = held
	}
	grown := held-k.held >= worthwhile+k.held/worthwhilePart
	switch {
	case first || float64(busy) > quietShare*float64(passed):
	case k.shrunk.IsZero(), grown, now.Sub(k.shrunk) >= collectEvery:
		p.shrink()
		k.shrunk, k.held = now, 0
	}
}

// self is this process.
type self struct{}

func (self) shrink() {
	runtime.GC() // what pools hold survives one collection, and goes in the next
	debug.FreeOSMemory()
	dropProgram()
}
