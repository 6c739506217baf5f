package truth

import (
	"math"
	"math/bits"
	"time"

	"hasp/mesh"
)

// line is an edge as the Book keeps it: what its proxy says of it now, and the
// sums of what the proxy has forgotten meanwhile.
type line struct {
	seq      uint64    // the order they came in
	edge     mesh.Edge // as told last, its times by our clock
	told     time.Time // its First, by the proxy's clock: tells one beginning from another
	toldLast time.Time // its Last, likewise
	toldAt   time.Time // when it said so, likewise
	before   sums      // of the beginnings before
	first    time.Time // of them all
	changed  time.Time // when we were told last
	past     []sample  // older first; never changed in place, Facts share it
}

// sums of a line. Latency is shared and never changed.
type sums struct {
	Connections uint64   `json:"connections"`
	Sent        uint64   `json:"sent"`
	Received    uint64   `json:"received"`
	Requests    uint64   `json:"requests,omitempty"`
	Errors      uint64   `json:"errors,omitempty"`
	Latency     []uint64 `json:"latency,omitempty"`
}

func sumsOf(e *mesh.Edge) sums {
	return sums{Connections: e.Connections, Sent: e.Sent, Received: e.Received, Requests: e.Requests, Errors: e.Errors, Latency: e.Latency}
}

// add two sums. A stranger's numbers may be of any size: they stop at the end.
func (a sums) add(b sums) sums {
	out := sums{
		Connections: add(a.Connections, b.Connections), Sent: add(a.Sent, b.Sent), Received: add(a.Received, b.Received),
		Requests: add(a.Requests, b.Requests), Errors: add(a.Errors, b.Errors), Latency: a.Latency,
	}
	switch {
	case len(b.Latency) == 0:
	case len(a.Latency) == 0:
		out.Latency = b.Latency
	default:
		out.Latency = make([]uint64, len(b.Latency))
		for i := range out.Latency {
			out.Latency[i] = add(a.Latency[i], b.Latency[i])
		}
	}
	return out
}

// since is what came on top of an earlier state.
func (a sums) since(b sums) sums {
	out := sums{
		Connections: less(a.Connections, b.Connections), Sent: less(a.Sent, b.Sent), Received: less(a.Received, b.Received),
		Requests: less(a.Requests, b.Requests), Errors: less(a.Errors, b.Errors), Latency: a.Latency,
	}
	if len(a.Latency) > 0 && len(b.Latency) > 0 {
		out.Latency = make([]uint64, len(a.Latency))
		for i := range out.Latency {
			out.Latency[i] = less(a.Latency[i], b.Latency[i])
		}
	}
	return out
}

func add(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return sum
}

func less(a, b uint64) uint64 { return a - min(a, b) }

// sums of all beginnings.
func (l *line) sums() sums { return l.before.add(sumsOf(&l.edge)) }

// whole is the line as Facts have it.
func (l *line) whole() mesh.Edge {
	e, s := l.edge, l.sums()
	e.First = l.first
	e.Connections, e.Sent, e.Received, e.Requests, e.Errors, e.Latency = s.Connections, s.Sent, s.Received, s.Requests, s.Errors, s.Latency
	return e
}

// told is an edge of a report: e has its times by our clock, first and last are
// what the proxy said, at is when it said so by its clock.
type told struct {
	e               mesh.Edge
	first, last, at time.Time
}

// take what a proxy says now. It says sums since a beginning, so that a report
// that is lost or comes twice does no harm; with a later beginning it has
// forgotten what was, and we add. It reports whether anything changed.
func (l *line) take(t told) bool {
	switch {
	case t.first.Equal(l.told):
		// A proxy may take a connection back that turned out to be a probe, so
		// smaller sums alone are no sign of a report that was overtaken.
		fewer := t.e.Connections < l.edge.Connections || t.e.Sent < l.edge.Sent || t.e.Received < l.edge.Received
		if fewer && t.at.Before(l.toldAt) {
			return false
		}
	case t.first.After(l.told), l.told.After(t.at), t.last.After(l.toldLast):
		// A beginning that is earlier, or was in the future, is that of a clock that
		// was set back. One that also ends earlier is of a report that was overtaken.
		l.before = l.sums()
	default:
		return false
	}
	l.edge, l.told, l.toldLast, l.toldAt = t.e, t.first, t.last, t.at
	if t.e.First.Before(l.first) {
		l.first = t.e.First
	}
	return true
}

const (
	// sampleEvery is how far samples are apart at least, samplesOf how many a line
	// has: together a bit more than the longest window.
	sampleEvery = 6 * time.Second
	samplesOf   = 11
	// MaxWindow is the longest that figures can be asked of, but for those of all
	// the time.
	MaxWindow = time.Minute
)

// sample is what the sums of a line were from a time on.
type sample struct {
	from time.Time
	sums sums
}

// due reports whether the state of the line before it changes is to be kept.
func (l *line) due() bool {
	return len(l.past) == 0 || l.changed.Sub(l.past[len(l.past)-1].from) >= sampleEvery
}

// keep the state as it is. It returns by how many samples there are more now.
func (l *line) keep() int {
	had := len(l.past)
	past := l.past
	if had >= samplesOf {
		past = past[1:]
	}
	l.past = append(append(make([]sample, 0, len(past)+1), past...), sample{l.changed, l.sums()})
	return len(l.past) - had
}

// history is what the sums of an edge were before, and since when they are what
// they are.
type history struct {
	changed time.Time
	past    []sample
}

// lately is what an edge carried since a time.
func (h history) lately(e *mesh.Edge, from time.Time) sums {
	now, past := sumsOf(e), h.past
	switch {
	case !h.changed.IsZero() && !h.changed.After(from), e.Last.Before(from) && e.Open == 0:
		return sums{}
	case len(past) == 0 || past[0].from.After(from) && !e.First.Before(from):
		return now
	}
	base := past[0]
	for _, s := range past {
		if !s.from.After(from) {
			base = s
		}
	}
	return now.since(base.sums)
}
