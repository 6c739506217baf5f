package cluster

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"hasp/control"
)

// serveHTTP until ctx ends.
func serveHTTP(ctx context.Context, ln net.Listener, h http.Handler) error {
	return control.ServeHTTP(ctx, ln, &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)})
}

// serveWebhooks until ctx ends. The API server verifies us by name against the
// caBundle that the leader keeps.
func (p *plane) serveWebhooks(ctx context.Context, w *work) error {
	mux := http.NewServeMux()
	mux.Handle("POST /inject", p.metrics.webhook("inject", w.inject.handler()))
	mux.Handle("POST /validate", p.metrics.webhook("validate", validate(w.control.Foretell,
		func(a netip.Addr) bool { return atPod(w.control.World(), a) })))
	ln := tls.NewListener(p.cfg.Listeners.Webhook, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return w.hook.Certificate() },
	})
	return serveHTTP(ctx, ln, newGate(mux))
}

// health answers the kubelet: ready when proxies and the API server can be
// served, with the reason in words when not; alive as long as it answers.
func (p *plane) health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /healthz/live", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	return mux
}

func (p *plane) ready() error {
	if p.leaving.Load() {
		return errors.New("it is stopping")
	}
	work := p.working.Load()
	if work == nil {
		if err := p.failed.Load(); err != nil {
			return *err
		}
		return errors.New("it is starting")
	}
	select {
	case <-work.control.Ready():
	default:
		return errors.New("the cluster is not read yet")
	}
	if _, err := work.own.Certificate(); err != nil {
		return fmt.Errorf("its certificate: %w", err)
	}
	if !work.inject.read() {
		return errors.New("the settings of sidecars are not read yet")
	}
	return nil
}

// Status is what GET /status on the admin port answers: hasp status of one
// replica.
type Status struct {
	Pod     string    `json:"pod"`
	Started time.Time `json:"started"`
	// Leader is the pod that leads, as far as this one knows.
	Leader string `json:"leader,omitempty"`
	// Authority is the Secret that signs, or the address of the foreign one.
	Authority string `json:"authority"`
	// Control is this replica's: its proxies are those connected to it.
	Control control.Status `json:"control"`
}

func (p *plane) status() (Status, error) {
	work := p.working.Load()
	if work == nil {
		return Status{}, p.ready()
	}
	s := Status{Pod: p.cfg.Pod, Started: p.started, Authority: work.authorityName(), Control: work.control.Status()}
	if id := p.leader.Load(); id != nil {
		s.Leader = *id
	}
	return s, nil
}

// admin is for whoever is on this machine already, or comes by port-forward:
// how this replica is, and the views of the facts (control.Views). The other end
// of a port-forward may be beside a browser.
func (p *plane) admin() http.Handler { return ownMachine(p.adminMux()) }

// ownMachine refuses what a page of some site made a browser send: a name that
// was bound to 127.0.0.1, and a question that changes or costs something.
func ownMachine(h http.Handler) http.Handler {
	h = http.NewCrossOriginProtection().Handler(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); host != "localhost" && (err != nil || !ip.IsLoopback()) {
			http.Error(w, "the admin port answers on loopback names only", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (p *plane) adminMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		s, err := p.status()
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(s)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		work := p.working.Load()
		if work == nil {
			http.Error(w, p.ready().Error(), http.StatusServiceUnavailable)
			return
		}
		work.views.ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
