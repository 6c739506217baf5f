package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// unavailableWait is how long a client whose service cannot be reached gets to
// show that it speaks HTTP, and then to read the answer.
const unavailableWait = time.Second

// sayUnreachable answers a request to an HTTP service that could not be reached
// with 503 instead of a reset. A client that speaks anything else, HTTP/2
// included, is reset.
// Nothing of the request has left the proxy.
func (p *Proxy) sayUnreachable(r *row, s *settings, client *relay.Side, cause error) {
	if r.snapshot().Protocol != mesh.HTTP {
		return
	}
	start := p.cfg.Now()
	if client.SetDeadline(time.Now().Add(unavailableWait)) != nil {
		return
	}
	buf := make([]byte, 4096)
	n, err := client.Read(buf)
	if err != nil || !looksLikeHTTP(buf[:n]) {
		return
	}
	if p.sayUnavailable(r, client, "connection failure, transport failure reason: "+cause.Error()) {
		method, _, _ := bytes.Cut(buf[:n], []byte{' '})
		p.exchanged(r, p.metrics.identify(r, s), exchange{Method: string(method), Code: http.StatusServiceUnavailable, Flags: "UF", Duration: p.cfg.Now().Sub(start)})
	}
}

// sayBroken answers the first request of a connection whose server went away
// before a byte of the response: what an application sees when its sidecar
// speaks plaintext to a STRICT server, or a server of TLS 1.3 refuses its
// certificate, which may be before it has said anything.
func (p *Proxy) sayBroken(r *row, client *relay.Side) {
	r.mu.Lock()
	say := r.facts.read(r.id).Direction == mesh.OutboundDir && r.upstreamBroke && !r.cut && r.watch != nil
	r.mu.Unlock()
	if !say || r.meter.Sent.Load() > 0 || r.watch.requests() > 1 {
		return
	}
	if client.SetDeadline(time.Now().Add(unavailableWait)) != nil || !hearRequest(r.watch, client) {
		return
	}
	if p.sayUnavailable(r, client, "connection termination") {
		r.watch.finish(http.StatusServiceUnavailable, "UC")
	}
}

// hearRequest reads on until the client has sent the head of a request. It obeys
// the read deadline.
func hearRequest(w *httpWatch, client *relay.Side) bool {
	buf := make([]byte, 4096)
	for w.requests() == 0 {
		n, err := client.Read(buf)
		if n > 0 {
			for hold := w.fromClient(buf[:n]); hold != nil; hold = w.fromClient(buf[:n]) {
				<-hold
			}
		}
		if err != nil || w.stopped() || w.speaksHTTP2() {
			break
		}
	}
	return w.requests() == 1 && !w.speaksHTTP2()
}

// traceHeader carries a connection's trace in an answer that is the proxy's own.
const traceHeader = "x-hasp-trace"

// unavailable is the body of a 503: first the words of Envoy, since applications
// and people know them, then how to ask for more.
func unavailable(reason, trace string) string {
	body := "upstream connect error or disconnect/reset before headers. reset reason: " + reason
	if trace != "" {
		body += "\nhasp why " + trace
	}
	return body
}

// sayUnavailable writes a 503 and reports whether it went out.
func (p *Proxy) sayUnavailable(r *row, client *relay.Side, reason string) bool {
	trace := r.snapshot().Trace
	body := unavailable(reason, trace)
	_, err := fmt.Fprintf(client, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: %d\r\ncontent-type: text/plain\r\ndate: %s\r\nserver: hasp\r\n%s: %s\r\nconnection: close\r\n\r\n%s",
		len(body), p.cfg.Now().UTC().Format(http.TimeFormat), traceHeader, trace, body)
	if err != nil || client.CloseWrite() != nil {
		return false
	}
	// Let the client read the answer before its unread request would make the
	// kernel reset the connection.
	if _, err := io.CopyN(io.Discard, client, 1<<20); err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) {
		r.finishInOrder()
	}
	return true
}

// looksLikeHTTP tells whether bytes begin like an HTTP/1 request: a method of
// capital letters and a blank. HTTP/2's preface is none.
func looksLikeHTTP(b []byte) bool {
	i := bytes.IndexByte(b, ' ')
	if i < 3 || i > 16 || bytes.HasPrefix(b, []byte("PRI *")) {
		return false
	}
	for _, c := range b[:i] {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}
