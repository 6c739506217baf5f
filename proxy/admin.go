package proxy

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// AdminHandler serves what the proxy knows of itself. It belongs on loopback:
// it shows who talks to whom, though never a key.
func (p *Proxy) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /config_dump", func(w http.ResponseWriter, _ *http.Request) {
		s := p.settings.Load()
		if s == nil {
			http.Error(w, "the proxy has no configuration yet", http.StatusServiceUnavailable)
			return
		}
		writeJSON(w, s.config)
	})
	mux.HandleFunc("GET /connections", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, p.Connections()) })
	mux.HandleFunc("GET /known", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, p.Known()) })
	mux.HandleFunc("GET /certs", func(w http.ResponseWriter, _ *http.Request) { p.serveCerts(w) })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { p.serveReady(w) })
	mux.Handle("GET /stats", p.MetricsHandler())
	mux.Handle("GET /stats/prometheus", p.MetricsHandler())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("/certs\n/config_dump\n/connections\n/debug/pprof/\n/known\n/ready\n/stats\n"))
	})
	return mux
}

// MetricsHandler serves the metrics in Prometheus's format, on any path.
func (p *Proxy) MetricsHandler() http.Handler {
	h := promhttp.HandlerFor(p.metrics.registry, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, row := range p.table.rows() {
			row.mu.Lock()
			row.flush()
			row.mu.Unlock()
		}
		h.ServeHTTP(w, r)
	})
}

// HealthHandler serves /healthz/ready: 200 when the proxy has a configuration
// and a certificate, every port of a gateway is open and it is not draining, else
// 503 and what it waits for.
func (p *Proxy) HealthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) { p.serveReady(w) })
	return mux
}

// Registerer takes metrics of others into the proxy's own.
func (p *Proxy) Registerer() prometheus.Registerer { return p.metrics.registry }

// Ready is nil when the proxy can serve, else says what it waits for.
func (p *Proxy) Ready() error {
	if p.draining.Load() {
		return errDraining
	}
	// The certificate comes first: without one there is no configuration either.
	if _, err := certificate(p.cfg.Identity); err != nil {
		return err
	}
	s := p.settings.Load()
	if s == nil {
		return errNoConfiguration
	}
	return p.gateways.ready(s)
}

func (p *Proxy) serveReady(w http.ResponseWriter) {
	if err := p.Ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("LIVE\n"))
}

// certInfo is a certificate without what only machines read.
type certInfo struct {
	Identity  string    `json:"identity,omitempty"`
	Serial    string    `json:"serial"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// serveCerts shows the proxy's own chain.
func (p *Proxy) serveCerts(w http.ResponseWriter) {
	c, err := certificate(p.cfg.Identity)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	var out []certInfo
	for _, der := range c.Certificate {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		info := certInfo{Serial: x.SerialNumber.Text(16), Issuer: x.Issuer.String(), NotBefore: x.NotBefore, NotAfter: x.NotAfter}
		if len(x.URIs) == 1 {
			info.Identity = x.URIs[0].String()
		}
		out = append(out, info)
	}
	writeJSON(w, out)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // the reader went away
}
