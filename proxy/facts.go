package proxy

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"hasp/mesh"
)

const (
	// maxEdges bounds the edges of one report, maxTold (pick.go) its connections.
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
		if r.account.line.Load() == nil && r.age(now) >= silentFor && r.isSettled() {
			f.p.count(r)
		}
		if c, news := f.news(r, now); news {
			live[c] = append(live[c], r)
		}
	}
	// Those that wait the longest come first.
	slices.SortFunc(live[opened], func(a, b *row) int { return cmp.Compare(a.id, b.id) })
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
	return opened, r.age(now) >= reportPause || r.isSettled()
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

func (f *Facts) node() string {
	if s := f.p.settings.Load(); s != nil {
		return s.config.Node
	}
	return ""
}
