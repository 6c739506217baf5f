package proxy

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxSeries bounds how many different label sets a proxy makes series for.
// Callers past it are counted together, under "unknown".
const maxSeries = 2000

// metrics are the proxy's counters, under Istio's names and labels, and a few
// of our own.
type metrics struct {
	registry *prometheus.Registry

	opened, closed  *prometheus.CounterVec
	sent, received  *prometheus.CounterVec
	requests        *prometheus.CounterVec
	durations       *prometheus.HistogramVec
	requestBytes    *prometheus.HistogramVec
	responseBytes   *prometheus.HistogramVec
	handshakes      *prometheus.CounterVec
	overload, cut   prometheus.Counter
	again, reused   prometheus.Counter
	rejected, folds prometheus.Counter
	generation      prometheus.Gauge
	questions       *prometheus.HistogramVec

	mu     sync.Mutex
	seen   map[string]bool
	shared map[labels]*series
}

func newMetrics(id Identity, now func() time.Time) *metrics {
	httpLabels := append(append([]string(nil), labelNames...), "response_code", "response_flags", "grpc_response_status")
	counters := func(name, help string, labels []string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	sizes := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(64, 8, 8)}, httpLabels)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		opened:   counters("istio_tcp_connections_opened_total", "Connections opened.", labelNames),
		closed:   counters("istio_tcp_connections_closed_total", "Connections closed.", labelNames),
		sent:     counters("istio_tcp_sent_bytes_total", "Bytes sent in response.", labelNames),
		received: counters("istio_tcp_received_bytes_total", "Bytes received as request.", labelNames),
		requests: counters("istio_requests_total", "HTTP requests, those of gRPC included.", httpLabels),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "istio_request_duration_milliseconds",
			Help:    "Time from the first byte of an HTTP request to the last of its response.",
			Buckets: []float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000},
		}, httpLabels),
		requestBytes:  sizes("istio_request_bytes", "Size of HTTP requests."),
		responseBytes: sizes("istio_response_bytes", "Size of HTTP responses."),
		handshakes:    counters("hasp_tls_handshake_failures_total", "TLS handshakes that failed, by our side and reason.", []string{"side", "reason"}),
		overload:      counter("hasp_connections_overload_total", "Connections reset because the connection table was full."),
		cut:           counter("hasp_connections_cut_total", "Live connections ended because a new configuration forbids them."),
		again:         counter("hasp_requests_sent_again_total", "HTTP requests sent to another endpoint because the first went away without an answer."),
		reused:        counter("hasp_connections_reused_total", "Connections to services that needed no handshake of their own."),
		rejected:      counter("hasp_config_rejected_total", "Configurations that were not applied."),
		folds:         counter("hasp_metric_overflow_total", "Label sets counted under unknown because there were too many."),
		generation:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "hasp_config_generation", Help: "Generation of the configuration in force."}),
		questions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hasp_demand_seconds", Help: "Time that connections waited for the control plane to say who is at an address.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 7),
		}, []string{"kind", "outcome"}),
		seen:   make(map[string]bool),
		shared: make(map[labels]*series),
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hasp_certificate_expiry_seconds", Help: "Time left of the proxy's own certificate; 0 when there is none.",
	}, func() float64 { return expirySeconds(id, now()) }))
	m.registry.MustRegister(m.opened, m.closed, m.sent, m.received, m.requests, m.durations, m.requestBytes, m.responseBytes,
		m.handshakes, m.overload, m.cut, m.again, m.reused, m.rejected, m.folds, m.generation, m.questions)
	return m
}

func (m *metrics) handshakeFailed(side string, err error) {
	m.handshakes.WithLabelValues(side, handshakeReason(err)).Inc()
}

// bounded is the label values, or as many "unknown" once there are maxSeries
// different ones. The last keep values, from small fixed sets, stay.
func (m *metrics) bounded(values []string, keep int) []string {
	key := strings.Join(values, "\x00")
	values = slices.Clone(values)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen[key] {
		return values
	}
	if len(m.seen) < maxSeries {
		m.seen[key] = true
		return values
	}
	m.folds.Inc()
	for i := 1; i < len(values)-keep; i++ { // values[0] is the reporter
		values[i] = "unknown"
	}
	return values
}

func expirySeconds(id Identity, now time.Time) float64 {
	c, err := id.Certificate()
	if err != nil || c.Leaf == nil {
		return 0
	}
	return c.Leaf.NotAfter.Sub(now).Seconds()
}
