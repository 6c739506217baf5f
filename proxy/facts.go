package proxy

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"hasp/mesh"
)

const (
	// maxTold bounds the connections of one report, maxEdges its edges.
	maxTold  = mesh.ReportConnections
	maxEdges = 600
	// reportPause is how soon connections that live are looked at again.
	reportPause = time.Second
)

// Facts is the proxy as a source of reports for its control plane: the ledger
// and the connection table, each time what changed since the report before.
type Facts struct {
	p       *Proxy
	start   time.Time
	changed chan struct{}

	mu      sync.Mutex // one report at a time
	number  uint64     // of the report
	rows    []*row     // scratch
	timer   *time.Timer
	stopped bool

	// Connections that ended and were not told yet.
	endedMu sync.Mutex
	samples [classes]sample
	dropped uint64
	// void says that the end of a connection that was told of cannot be told.
	void bool
}

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

func newFacts(p *Proxy) *Facts {
	return &Facts{p: p, start: p.cfg.Now(), changed: make(chan struct{}, 1)}
}

// Changed has a value when there is something to report.
func (f *Facts) Changed() <-chan struct{} { return f.changed }

func (f *Facts) poke() {
	select {
	case f.changed <- struct{}{}:
	default: // it has one
	}
}

// Report is what changed since the last report, or with whole all there is. What
// has no room in it follows in the next ones, for which Changed then has a
// value. It never takes long: connections that live cost a look each, all else
// what it has to tell.
func (f *Facts) Report(whole bool) *mesh.Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.changed: // all until now is in this report
	default:
	}
	f.number++
	whole = f.begin(whole)
	r := &mesh.Report{Start: f.start, At: f.p.cfg.Now(), Generation: f.p.Generation(), Whole: whole}
	if whole {
		f.p.ledger.tellAll()
	}
	live := f.lookAtLive(r.At, whole)
	var left, more bool
	r.Connections, left = f.pick(live)
	r.Edges, more = f.p.ledger.news(f.node(), maxEdges)
	r.Dropped = f.droppedSoFar()
	switch {
	case left || more:
		f.poke()
	case len(f.rows) > 0:
		f.lookAgain()
	}
	clear(f.rows)
	f.rows = f.rows[:0]
	return r
}

// begin makes ready for a report, and tells whether it must be a whole one.
func (f *Facts) begin(whole bool) bool {
	f.endedMu.Lock()
	defer f.endedMu.Unlock()
	if !whole && !f.void {
		return false
	}
	f.void = false
	f.samples = [classes]sample{}
	recent := f.p.table.appendRecent(nil)
	slices.Reverse(recent)
	for i := range recent {
		s := &f.samples[classOf(&recent[i])]
		if len(s.facts) == maxTold {
			s.facts = slices.Delete(s.facts, 0, 1)
		}
		s.facts = append(s.facts, recent[i])
	}
	return true
}

// lookAtLive brings the ledger up to date and finds what there is to tell of
// connections that live.
func (f *Facts) lookAtLive(now time.Time, whole bool) (live [classes][]*row) {
	f.rows = f.p.table.appendRows(f.rows)
	if whole {
		f.endedMu.Lock()
		for _, r := range f.rows {
			r.told = told{ended: r.told.ended}
		}
		f.endedMu.Unlock()
	}
	for _, r := range f.rows {
		f.p.bring(r)
		if r.account.line.Load() == nil && now.Sub(r.start()) >= silentFor && r.isSettled() {
			f.p.count(r)
		}
		if c, news := f.news(r, now); news {
			live[c] = append(live[c], r)
		}
	}
	// Those that wait the longest come first.
	slices.SortFunc(live[opened], func(a, b *row) int { return cmp.Compare(a.facts.ID, b.facts.ID) })
	slices.SortFunc(live[moved], func(a, b *row) int { return cmp.Compare(a.told.at, b.told.at) })
	return live
}

// news tells whether there is something to tell of a connection that lives.
func (f *Facts) news(r *row, now time.Time) (class, bool) {
	t := &r.told
	if t.at > 0 {
		return moved, t.revision != r.revision.Load() || t.sent != r.meter.Sent.Load() || t.received != r.meter.Received.Load()
	}
	// Most are decided about in no time.
	return opened, now.Sub(r.start()) >= reportPause || r.isSettled()
}

// pick takes what a report has room for; left says that there is more.
func (f *Facts) pick(live [classes][]*row) (out []mesh.Connection, left bool) {
	f.endedMu.Lock()
	defer f.endedMu.Unlock()
	var have [classes]int
	for c := range classes {
		have[c] = len(live[c]) + len(f.samples[c].facts)
	}
	for c, n := range share(have) {
		left = left || n < have[c]
		out = append(out, f.samples[c].take(min(n, len(f.samples[c].facts)))...)
		for _, r := range live[c][:min(n, len(live[c]))] {
			if !r.told.ended { // else it is among those that ended
				out = append(out, f.tell(r))
			}
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

// lookAgain wakes the reporter, after a while, if a connection that lives has
// moved. Callers hold mu.
func (f *Facts) lookAgain() {
	switch {
	case f.stopped:
	case f.timer == nil:
		f.timer = time.AfterFunc(reportPause, f.look)
	default:
		f.timer.Reset(reportPause)
	}
}

func (f *Facts) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.p.cfg.Now()
	f.rows = f.p.table.appendRows(f.rows)
	if slices.ContainsFunc(f.rows, func(r *row) bool { _, news := f.news(r, now); return news }) {
		f.poke()
	} else if len(f.rows) > 0 {
		f.lookAgain()
	}
	clear(f.rows)
	f.rows = f.rows[:0]
}

// stop ends what the reports have running.
func (f *Facts) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	if f.timer != nil {
		f.timer.Stop()
	}
}

func (f *Facts) droppedSoFar() uint64 {
	f.endedMu.Lock()
	defer f.endedMu.Unlock()
	return f.dropped
}

func (f *Facts) node() string {
	if s := f.p.settings.Load(); s != nil {
		return s.config.Node
	}
	return ""
}
