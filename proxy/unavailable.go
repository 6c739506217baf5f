package proxy

import (
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
// show that it speaks HTTP and what it wants, and then to read the answer.
const unavailableWait = time.Second

// sayUnreachable answers the requests of a client whose HTTP service could not be
// reached with 503 instead of a reset. A client that speaks anything else is reset.
// Nothing of the request has left the proxy.
func (p *Proxy) sayUnreachable(r *row, s *settings, client *relay.Side, cause error) {
	if !speaksHTTP(r.snapshot().Protocol) || client.SetDeadline(time.Now().Add(unavailableWait)) != nil {
		return
	}
	se := p.metrics.identify(r, s)
	w := newHTTPWatch(p.cfg.Now, func(x exchange) { p.exchanged(r, se, x) })
	if hearRequest(w, client) && p.sayUnavailable(r, w, client, "connection failure, transport failure reason: "+cause.Error()) {
		w.finish(http.StatusServiceUnavailable, "UF")
	}
}

// sayBroken answers the first requests of a connection whose server went away
// before a byte of the response: what an application sees when its sidecar
// speaks plaintext to a STRICT server, or a server of TLS 1.3 refuses its
// certificate, which may be before it has said anything.
func (p *Proxy) sayBroken(r *row, client *relay.Side) {
	r.mu.Lock()
	say := r.facts.read(r.id).Direction == mesh.OutboundDir && r.upstreamBroke && !r.cut && r.watch != nil
	r.mu.Unlock()
	if !say || r.meter.Sent.Load() > 0 || client.SetDeadline(time.Now().Add(unavailableWait)) != nil {
		return
	}
	if hearRequest(r.watch, client) && p.sayUnavailable(r, r.watch, client, "connection termination") {
		r.watch.finish(http.StatusServiceUnavailable, "UC")
	}
}

// maxUnanswered bounds what a client says before it is answered.
const maxUnanswered = 1 << 20

// hearRequest reads on until the client has sent the head of a request, which is the
// only one unless it speaks HTTP/2: then it was greeted before. It obeys the read
// deadline.
func hearRequest(w *httpWatch, client io.ReadWriter) bool {
	buf := make([]byte, 4096)
	greeted := false
	for heard := 0; ; {
		if w.speaksHTTP2() && !greeted {
			if _, err := client.Write(greetHTTP2); err != nil {
				return false
			}
			greeted = true
		}
		if w.requests() > 0 {
			return greeted || w.requests() == 1
		}
		if w.stopped() || heard > maxUnanswered {
			return false
		}
		n, err := client.Read(buf)
		heard += n
		if n > 0 {
			for hold := w.fromClient(buf[:n]); hold != nil; hold = w.fromClient(buf[:n]) {
				<-hold
			}
		} else if err != nil {
			return false
		}
	}
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

// sayUnavailable answers the requests that a watch has seen and nobody answered, and
// reports whether that went out.
func (p *Proxy) sayUnavailable(r *row, w *httpWatch, client *relay.Side, reason string) bool {
	trace, now := r.snapshot().Trace, p.cfg.Now()
	var answer []byte
	if streams, last, window := w.unanswered(); len(streams) > 0 {
		answer = refusal(streams, last, window, trace, reason, now)
	} else if !w.speaksHTTP2() {
		body := unavailable(reason, trace)
		answer = fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: %d\r\ncontent-type: text/plain\r\ndate: %s\r\nserver: hasp\r\n%s: %s\r\nconnection: close\r\n\r\n%s",
			len(body), now.UTC().Format(http.TimeFormat), traceHeader, trace, body)
	}
	if len(answer) == 0 {
		return false
	}
	if _, err := client.Write(answer); err != nil || client.CloseWrite() != nil {
		return false
	}
	// Let the client read the answer before its unread request would make the
	// kernel reset the connection.
	if _, err := io.CopyN(io.Discard, client, 1<<20); err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) {
		r.finishInOrder()
	}
	return true
}
