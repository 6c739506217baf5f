package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// unavailableWait is how long a client whose service cannot be reached gets to
// show that it speaks HTTP and can be given an answer instead of a reset.
const unavailableWait = time.Second

// sayUnavailable answers a request to an HTTP service that could not be reached
// with 503, in the words of Envoy, since applications and people know them. A
// client that speaks anything else is reset. Nothing of the request has left
// the proxy.
func (p *Proxy) sayUnavailable(r *row, s *settings, client *relay.Side, cause error) {
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
	const flags = "UF"
	body := "upstream connect error or disconnect/reset before headers. reset reason: connection failure, transport failure reason: " + cause.Error()
	_, err = fmt.Fprintf(client, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: %d\r\ncontent-type: text/plain\r\ndate: %s\r\nserver: hasp\r\nconnection: close\r\n\r\n%s",
		len(body), start.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"), body)
	if err != nil || client.CloseWrite() != nil {
		return
	}
	method, _, _ := bytes.Cut(buf[:n], []byte{' '})
	p.metrics.exchange(p.metrics.identify(r, s), exchange{Method: string(method), Code: 503, Flags: flags, Duration: p.cfg.Now().Sub(start)})
	// Let the client read the answer before its unread request would make the
	// kernel reset the connection.
	if _, err := io.CopyN(io.Discard, client, 1<<20); err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) {
		r.finishInOrder()
	}
}

// looksLikeHTTP tells whether bytes begin like an HTTP/1 request: a method of
// capital letters and a blank.
func looksLikeHTTP(b []byte) bool {
	i := bytes.IndexByte(b, ' ')
	if i < 3 || i > 16 {
		return false
	}
	for _, c := range b[:i] {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}
