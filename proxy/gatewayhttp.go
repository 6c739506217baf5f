package proxy

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"

	"hasp/mesh"
)

// gatewayHandler serves the requests of one gateway port: route, forward, log.
func (p *Proxy) gatewayHandler(port uint16) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := p.newRequest(r)
		out := &countingWriter{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			if v := recover(); v != nil {
				if v != http.ErrAbortHandler {
					q.log.Flags = "UC"
					p.log.Error("a request's goroutine panicked", "panic", v)
				}
				p.finishRequest(q, out)
				panic(http.ErrAbortHandler) // lets the server cut the response short
			}
			p.finishRequest(q, out)
		}()
		p.serveRequest(out, r, q, port)
	})
}

// request is one HTTP request through a gateway.
type request struct {
	settings *settings
	cluster  *cluster
	row      atomic.Pointer[row] // of the upstream connection that carries it
	log      requestLog
	sent     uint64 // bytes of its body, when its head says
	grpc     bool
}

func (p *Proxy) newRequest(r *http.Request) *request {
	id := r.Header.Get("X-Request-Id")
	if id == "" {
		id = newRequestID()
		r.Header.Set("X-Request-Id", id)
	}
	return &request{settings: p.settings.Load(), sent: uint64(max(r.ContentLength, 0)), grpc: isGRPC(r.Header.Get("Content-Type")), log: requestLog{
		Start: p.cfg.Now(), Source: r.RemoteAddr, Method: r.Method, Host: r.Host,
		Path: r.URL.RequestURI(), Protocol: r.Proto, RequestID: cutTo(id, maxSentence), Flags: "-",
	}}
}

func (p *Proxy) serveRequest(w http.ResponseWriter, r *http.Request, q *request, port uint16) {
	g := q.settings.gateway[port]
	if g == nil {
		q.notFound(w)
		return
	}
	srv := g.serverOf(r)
	if srv == nil {
		q.notFound(w)
		return
	}
	if g.misdirected(srv, r) {
		q.log.Why = "the connection was made for another server of the gateway"
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusMisdirectedRequest)
		return
	}
	if srv.HTTPSRedirect {
		http.Redirect(w, r, p.httpsURL(q.settings, r), http.StatusMovedPermanently)
		return
	}
	rt, m := srv.route(r)
	if rt == nil {
		q.notFound(w)
		return
	}
	q.log.Route = rt.Origin.Ref()
	q.cluster = rt.pick()
	q.log.Cluster = q.cluster.Name
	p.forward(w, r, q, rt, m)
}

// notFound is Envoy's answer to a request that no route takes.
func (q *request) notFound(w http.ResponseWriter) {
	q.log.Flags = "NR"
	w.WriteHeader(http.StatusNotFound)
}

// forward sends a request to its cluster and the response back. net/http's
// ReverseProxy knows the rules: hop-by-hop headers, upgrades, trailers.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, q *request, rt *route, m *match) {
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if c, ok := info.Conn.(*gatewayConn); ok {
				q.travelsOn(c.row)
			}
		},
	})
	rp := &httputil.ReverseProxy{
		Transport: &againTransport{p: p, q: q, next: p.gateways.pool(q.settings, q.cluster).transport},
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = "http", "cluster"
			if rt.Rewrite != "" {
				pr.Out.URL.Path, pr.Out.URL.RawPath = rt.rewritten(m, pr.In.URL.Path), ""
			}
			pr.Out.Host = pr.In.Host
			pr.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { q.failed(w, r, err) },
		ErrorLog:     p.gateways.errorLog,
	}
	rp.ServeHTTP(w, r.WithContext(ctx))
}

// travelsOn notes the connection that carries the request, nil for none any more.
func (q *request) travelsOn(r *row) {
	if r != nil {
		r.carries.Add(1)
	}
	if before := q.row.Swap(r); before != nil {
		before.carries.Add(-1)
	}
}

// failed answers for an upstream that did not, in Envoy's words.
func (q *request) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		q.log.Flags = "DC" // nobody hears the answer
		w.WriteHeader(499)
		return
	}
	reason := "connection failure"
	q.log.Flags = "UF"
	var unmade *unmadeError
	if row := q.row.Load(); row != nil {
		reason, q.log.Flags = "connection termination", "UC"
		q.log.tell(row.snapshot())
	} else if errors.As(err, &unmade) {
		q.log.tell(unmade.facts)
	}
	q.log.Why = err.Error()
	w.Header().Set("Content-Type", "text/plain")
	if q.log.Trace != "" {
		w.Header().Set(traceHeader, q.log.Trace)
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, unavailable(reason, q.log.Trace))
}

// finishRequest counts and logs, once for each request.
func (p *Proxy) finishRequest(q *request, w *countingWriter) {
	l := &q.log
	l.Code, l.Sent = w.code, w.bytes
	l.Duration = p.cfg.Now().Sub(l.Start)
	facts := mesh.Connection{Direction: mesh.OutboundDir, Protocol: mesh.HTTP, Security: mesh.Unknown, LocalIdentity: q.settings.config.Identity}
	if q.cluster != nil {
		facts.Service, facts.Cluster = q.cluster.Hostname, q.cluster.Name
	}
	row := q.row.Load()
	if row != nil {
		facts = row.snapshot()
		l.tell(facts)
	}
	p.access.request(p.logForm(), l)
	x := exchange{Method: l.Method, Code: l.Code, Flags: l.Flags, Duration: l.Duration, Request: q.sent, Response: l.Sent, GRPC: q.grpc}
	if s := cmp.Or(w.Header().Get("Grpc-Status"), w.Header().Get(http.TrailerPrefix+"Grpc-Status")); s != "" {
		x.Status = parseStatus(s)
	}
	if se := p.seriesFor(q, row, &facts); row != nil {
		p.exchanged(row, se, x)
	} else {
		se.exchange(x)
	}
	q.travelsOn(nil)
}

// seriesFor is the upstream connection's series, or one made for a request that
// never had a connection.
func (p *Proxy) seriesFor(q *request, r *row, facts *mesh.Connection) *series {
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.series != nil {
			return r.series
		}
	}
	l := connectionLabels(q.settings, facts)
	l.Protocol = "http"
	return p.metrics.series(&l)
}

// httpsURL is the same page on the port that serves HTTPS.
func (p *Proxy) httpsURL(s *settings, r *http.Request) string {
	host := hostname(r.Host)
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	var tlsPorts []uint16
	for port, g := range s.gateway {
		if g.protocol == mesh.HTTPS {
			tlsPorts = append(tlsPorts, port)
		}
	}
	if len(tlsPorts) == 1 {
		if port := p.outsidePort(tlsPorts[0]); port != 443 {
			host = fmt.Sprintf("%s:%d", host, port)
		}
	}
	return (&url.URL{Scheme: "https", Host: host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}).String()
}

// outsidePort is what a gateway's port is called where its clients are: that of
// the inherited socket, if there is one.
func (p *Proxy) outsidePort(port uint16) uint16 {
	if ln := p.cfg.Inherited[port]; ln != nil {
		if at := addrPort(ln.Addr()); at.IsValid() {
			return at.Port()
		}
	}
	return port
}

// newRequestID is a random UUID (RFC 9562, version 4).
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// countingWriter notes the status and the bytes of a response.
type countingWriter struct {
	http.ResponseWriter
	code  int
	wrote bool
	bytes uint64
}

// WriteHeader implements http.ResponseWriter. Informational responses pass.
func (w *countingWriter) WriteHeader(code int) {
	if !w.wrote && (code >= 200 || code == http.StatusSwitchingProtocols) {
		w.wrote, w.code = true, code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *countingWriter) Write(p []byte) (int, error) {
	w.wrote = true
	n, err := w.ResponseWriter.Write(p)
	w.bytes += uint64(n)
	return n, err
}

// ReadFrom keeps sendfile and splice possible.
func (w *countingWriter) ReadFrom(r io.Reader) (int64, error) {
	w.wrote = true
	n, err := io.Copy(w.ResponseWriter, r)
	w.bytes += uint64(n)
	return n, err
}

// Unwrap lets http.ResponseController flush and hijack.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
