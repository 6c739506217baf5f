package proxy

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// series are the counters of what goes on between two workloads. All connections
// between them share one, while there are not too many.
type series struct {
	m      *metrics
	labels labels
	values []string // of labels

	last      atomic.Pointer[exchangeSeries] // most requests end like the one before
	mu        sync.Mutex
	exchanges map[outcome]*exchangeSeries
	tcp       *tcpCounters
}

type tcpCounters struct {
	opened, closed, sent, received prometheus.Counter
}

// tcpSeries are the counters of a connection that is not HTTP.
type tcpSeries struct {
	*tcpCounters
	// How much of the connection's bytes is in the counters already.
	flushedSent, flushedReceived uint64
}

// outcome is what came out of a request.
type outcome struct {
	code   int
	flags  string
	grpc   bool
	status grpcStatus
}

type exchangeSeries struct {
	outcome  outcome
	count    prometheus.Counter
	duration prometheus.Observer
	request  prometheus.Observer
	response prometheus.Observer
}

// maxOutcomes bounds the outcomes that one series remembers.
const maxOutcomes = 32

// series are the counters for some labels.
func (m *metrics) series(l *labels) *series {
	m.mu.Lock()
	defer m.mu.Unlock()
	if se := m.shared[*l]; se != nil {
		return se
	}
	se := &series{m: m, labels: *l, values: l.values()}
	if len(m.shared) < maxSeries {
		m.shared[*l] = se
	}
	return se
}

// identify gives a connection its series. Its peers must be known.
func (m *metrics) identify(r *row, s *settings) *series {
	f := r.snapshot()
	l := connectionLabels(s, &f)
	se := m.series(&l)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.series = se
	if !speaksHTTP(f.Protocol) {
		r.tcp = se.countTCP()
	}
	return se
}

// countTCP begins to count a connection as TCP.
func (se *series) countTCP() *tcpSeries {
	se.mu.Lock()
	defer se.mu.Unlock()
	if se.tcp == nil {
		m, values := se.m, se.m.bounded(se.values, 2)
		se.tcp = &tcpCounters{
			opened:   m.opened.WithLabelValues(values...),
			closed:   m.closed.WithLabelValues(values...),
			sent:     m.sent.WithLabelValues(values...),
			received: m.received.WithLabelValues(values...),
		}
	}
	se.tcp.opened.Inc()
	return &tcpSeries{tcpCounters: se.tcp}
}

// exchange counts one HTTP request.
func (se *series) exchange(x exchange) {
	o := outcome{x.Code, x.Flags, x.GRPC, x.Status}
	es := se.last.Load()
	if es == nil || es.outcome != o {
		es = se.of(o)
		se.last.Store(es)
	}
	es.count.Inc()
	es.duration.Observe(float64(x.Duration.Microseconds()) / 1000)
	es.request.Observe(float64(x.Request))
	es.response.Observe(float64(x.Response))
}

func (se *series) of(o outcome) *exchangeSeries {
	se.mu.Lock()
	defer se.mu.Unlock()
	if es := se.exchanges[o]; es != nil {
		return es
	}
	l := se.labels
	if o.grpc {
		l.Protocol = "grpc"
	}
	m := se.m
	values := m.bounded(append(l.values(), strconv.Itoa(o.code), o.flags, o.status.String()), 5)
	es := &exchangeSeries{o, m.requests.WithLabelValues(values...), m.durations.WithLabelValues(values...),
		m.requestBytes.WithLabelValues(values...), m.responseBytes.WithLabelValues(values...)}
	if se.exchanges == nil {
		se.exchanges = make(map[outcome]*exchangeSeries)
	}
	if len(se.exchanges) < maxOutcomes {
		se.exchanges[o] = es
	}
	return es
}

// connectionEnded counts the end of a connection that was let in.
func (m *metrics) connectionEnded(r *row) {
	r.mu.Lock()
	se, watch, upstreamBroke := r.series, r.watch, r.upstreamBroke
	r.mu.Unlock()
	if se == nil {
		return
	}
	isHTTP := false
	if watch != nil {
		flags := "DC"
		if upstreamBroke {
			flags = "UC"
		}
		watch.finish(0, flags)
		isHTTP = watch.isHTTP()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if watch != nil && !isHTTP { // it was something else after all
		l := se.labels
		l.Protocol = "tcp"
		r.tcp = m.series(&l).countTCP()
	}
	r.flush()
	if r.tcp != nil {
		r.tcp.closed.Inc()
	}
}

// flush brings the byte counters up to date: when a connection ends, and for
// those that live before each scrape. Callers hold mu.
func (r *row) flush() {
	t := r.tcp
	if t == nil {
		return
	}
	sent, received := r.meter.Sent.Load(), r.meter.Received.Load()
	t.sent.Add(float64(sent - t.flushedSent))
	t.received.Add(float64(received - t.flushedReceived))
	t.flushedSent, t.flushedReceived = sent, received
}
