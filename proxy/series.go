package proxy

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"hasp/mesh"
)

// series are the counters of one connection, looked up once.
type series struct {
	labels []string
	tcp    *tcpSeries // nil for HTTP, which counts requests instead
	// exchanges are the counters by what came out of a request.
	mu        sync.Mutex
	exchanges map[outcome]exchangeSeries
}

type tcpSeries struct {
	closed, sent, received prometheus.Counter
	// How much of the connection's bytes is in the counters already.
	flushedSent, flushedReceived uint64
}

type outcome struct {
	code  int
	flags string
}

type exchangeSeries struct {
	count    prometheus.Counter
	duration prometheus.Observer
	request  prometheus.Observer
	response prometheus.Observer
}

func newSeries(l *labels) *series {
	return &series{labels: l.values(), exchanges: make(map[outcome]exchangeSeries)}
}

// identify gives a connection its series. Its peers must be known.
func (m *metrics) identify(r *row, s *settings) *series {
	f := r.snapshot()
	l := connectionLabels(s, &f)
	se := newSeries(&l)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.series = se
	if f.Protocol != mesh.HTTP {
		m.countTCP(se)
	}
	return se
}

// countTCP begins to count a connection as TCP.
func (m *metrics) countTCP(se *series) {
	values := m.bounded(se.labels, 2)
	m.opened.WithLabelValues(values...).Inc()
	se.tcp = &tcpSeries{
		closed:   m.closed.WithLabelValues(values...),
		sent:     m.sent.WithLabelValues(values...),
		received: m.received.WithLabelValues(values...),
	}
}

// exchange counts one HTTP request.
func (m *metrics) exchange(se *series, x exchange) {
	se.mu.Lock()
	defer se.mu.Unlock()
	key := outcome{x.Code, x.Flags}
	es, ok := se.exchanges[key]
	if !ok {
		values := append(append([]string(nil), se.labels...), strconv.Itoa(x.Code), x.Flags)
		values = m.bounded(values, 4)
		es = exchangeSeries{m.requests.WithLabelValues(values...), m.durations.WithLabelValues(values...),
			m.requestBytes.WithLabelValues(values...), m.responseBytes.WithLabelValues(values...)}
		if len(se.exchanges) < 32 {
			se.exchanges[key] = es
		}
	}
	es.count.Inc()
	es.duration.Observe(float64(x.Duration.Microseconds()) / 1000)
	es.request.Observe(float64(x.Request))
	es.response.Observe(float64(x.Response))
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
	if watch != nil && !isHTTP {
		se.labels[len(se.labels)-2] = "tcp" // request_protocol: it was something else after all
		m.countTCP(se)
	}
	r.flush()
	if se.tcp != nil {
		se.tcp.closed.Inc()
	}
}

// flush brings the byte counters up to date: when a connection ends, and for
// those that live before each scrape. Callers hold mu.
func (r *row) flush() {
	if r.series == nil || r.series.tcp == nil {
		return
	}
	t := r.series.tcp
	sent, received := r.meter.Sent.Load(), r.meter.Received.Load()
	t.sent.Add(float64(sent - t.flushedSent))
	t.received.Add(float64(received - t.flushedReceived))
	t.flushedSent, t.flushedReceived = sent, received
}
