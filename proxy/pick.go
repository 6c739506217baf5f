package proxy

import (
	"slices"

	"hasp/mesh"
)

// maxTold bounds the connections of one report.
const maxTold = mesh.ReportConnections

// class is what connections compete with for their place in a report.
type class int

const (
	refusedKnown    class = iota // did not come about, a workload's
	refusedStranger              // did not come about, anybody else's
	endedTold                    // ended, and was told of when it lived
	opened                       // lives, and was not told of yet
	endedUntold                  // ended, and was never told of
	moved                        // lives, and is not as it was told
	classes
)

// shares of a report that each class has to itself. What a class leaves is given
// to the others, in their order.
var shares = [classes]int{refusedKnown: 150, refusedStranger: 80, endedTold: 80, opened: 80, endedUntold: 60, moved: 50}

// told is what the control plane knows of a connection that lives.
type told struct {
	at uint64 // number of the report that had it last, 0 for none
	// As it was told.
	revision       uint32
	sent, received uint64

	// Under Facts.endedMu.
	once  bool // at is not 0
	ended bool
}

// pick takes what a report has room for; left says that there is more.
func (f *Facts) pick(live [classes][]*row) (out []mesh.Connection, left bool) {
	f.endedMu.Lock()
	defer f.endedMu.Unlock()
	var have [classes]int
	for c := range classes {
		live[c] = slices.DeleteFunc(live[c], func(r *row) bool { return r.told.ended }) // it is in a sample
		have[c] = len(live[c]) + len(f.samples[c].facts)
	}
	for c, n := range share(have) {
		left = left || n < have[c]
		out = append(out, f.samples[c].take(min(n, len(f.samples[c].facts)))...)
		for _, r := range live[c][:min(n, len(live[c]))] {
			out = append(out, f.tell(r))
		}
	}
	for i := range out {
		trim(&out[i])
	}
	return out, left
}

// share divides a report among those that have something to tell.
func share(have [classes]int) (out [classes]int) {
	room := maxTold
	for c := range classes {
		out[c] = min(have[c], shares[c])
		room -= out[c]
	}
	for c := range classes {
		more := min(have[c]-out[c], room)
		out[c] += more
		room -= more
	}
	return out
}

// tell is a connection that lives. Callers hold endedMu.
func (f *Facts) tell(r *row) mesh.Connection {
	t := &r.told
	t.at, t.once, t.revision = f.number, true, r.revision.Load() // before its facts are read
	facts := r.snapshot()
	t.sent, t.received = facts.Sent, facts.Received
	return facts
}

// ended takes a connection that has ended. worth says whether it is to be told
// if it has not been told of before.
func (f *Facts) ended(r *row, facts *mesh.Connection, worth bool) {
	if f.p.ledger == nil {
		return
	}
	f.endedMu.Lock()
	defer f.endedMu.Unlock()
	r.told.ended = true
	c := classOf(facts)
	switch {
	case r.told.once && c == endedUntold:
		c = endedTold
	case !worth && !r.told.once:
		return
	}
	sample := &f.samples[c]
	sample.told = sample.told || r.told.once
	if lost := sample.add(facts); lost {
		f.dropped++
		f.void = f.void || sample.told
	}
	f.poke()
}

// classOf is the class of a connection that has ended.
func classOf(f *mesh.Connection) class {
	switch {
	case f.Allowed && f.Failure == nil:
		return endedUntold
	case f.PeerWorkload != "" || f.PeerIdentity != "":
		return refusedKnown
	}
	return refusedStranger
}

func (f *Facts) droppedSoFar() uint64 {
	f.endedMu.Lock()
	defer f.endedMu.Unlock()
	return f.dropped
}
