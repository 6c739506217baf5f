package cluster

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"
)

// metrics is what a replica counts.
type metrics struct {
	registry *prometheus.Registry

	signed   *prometheus.CounterVec // certificate requests by code
	reviewed *prometheus.CounterVec // tokens by outcome
	asked    *prometheus.CounterVec // webhook requests by path and HTTP status
	took     *prometheus.HistogramVec
}

func newMetrics(r *prometheus.Registry, p *plane) *metrics {
	m := &metrics{
		registry: r,
		signed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hasp_certificate_requests_total", Help: "Certificate requests answered, by gRPC code.",
		}, []string{"code"}),
		reviewed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hasp_token_reviews_total", Help: "ServiceAccount tokens reviewed, by outcome.",
		}, []string{"outcome"}),
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hasp_webhook_requests_total", Help: "Requests of the API server, by webhook and HTTP status.",
		}, []string{"webhook", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hasp_webhook_duration_seconds", Help: "Time to answer the API server.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10},
		}, []string{"webhook"}),
	}
	r.MustRegister(m.signed, m.reviewed, m.asked, m.took,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), state{p})
	return m
}

func (m *metrics) handler(progress http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /progress", progress)
	return mux
}

func (m *metrics) certificate(code codes.Code) { m.signed.WithLabelValues(code.String()).Inc() }

func (m *metrics) token(outcome string) { m.reviewed.WithLabelValues(outcome).Inc() }

// webhook counts and times a handler.
func (m *metrics) webhook(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, s := time.Now(), &statusWriter{ResponseWriter: w, code: http.StatusOK}
		h.ServeHTTP(s, r)
		m.asked.WithLabelValues(name, strconv.Itoa(s.code)).Inc()
		m.took.WithLabelValues(name).Observe(time.Since(start).Seconds())
	})
}

// statusWriter remembers the status of a response.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (s *statusWriter) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// state tells, when asked, what the replica knows of itself.
type state struct{ p *plane }

var (
	leaderDesc     = prometheus.NewDesc("hasp_leader", "1 on the replica that leads.", nil, nil)
	readyDesc      = prometheus.NewDesc("hasp_ready", "1 when the replica is ready.", nil, nil)
	generationDesc = prometheus.NewDesc("hasp_generation", "Newest generation of the configuration.", nil, nil)
	proxiesDesc    = prometheus.NewDesc("hasp_proxies", "Proxies known to this replica, by state: behind, current, refused, gone.", []string{"state"}, nil)
	pushesDesc     = prometheus.NewDesc("hasp_pushes_total", "Configurations sent to proxies.", nil, nil)
	problemsDesc   = prometheus.NewDesc("hasp_problems", "Things that objects say and that are not used.", nil, nil)
	expiryDesc     = prometheus.NewDesc("hasp_authority_expiry_timestamp_seconds", "When the signing certificate ends.", nil, nil)
)

func (s state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{leaderDesc, readyDesc, generationDesc, proxiesDesc, pushesDesc, problemsDesc, expiryDesc} {
		ch <- d
	}
}

func (s state) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	yes := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge(leaderDesc, yes(s.p.leads()))
	gauge(readyDesc, yes(s.p.ready() == nil))
	work := s.p.working.Load()
	if work == nil {
		return
	}
	c := work.control.Status()
	gauge(generationDesc, float64(c.Generation))
	gauge(problemsDesc, float64(len(c.Problems)))
	if !c.CAExpiry.IsZero() {
		gauge(expiryDesc, float64(c.CAExpiry.Unix()))
	}
	ch <- prometheus.MustNewConstMetric(pushesDesc, prometheus.CounterValue, float64(c.Pushes))
	for state, n := range c.Tally() {
		gauge(proxiesDesc, float64(n), state)
	}
}
