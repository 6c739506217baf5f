package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// maxProbeBody is how much a kubelet reads of a probe's response.
const maxProbeBody = 10 << 10

// newAsker is what asks the workload as a kubelet would, from inside the pod.
// https://github.com/kubernetes/kubernetes/blob/v1.37.0/pkg/probe/http/http.go
func (p *Proxy) newAsker() *http.Client {
	t := &http.Transport{
		DialContext:            func(ctx context.Context, _, addr string) (net.Conn, error) { return p.dial(ctx, addr) },
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true}, // kubelets verify nothing either
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	t.Protocols.SetHTTP2(true) // over TLS, as kubelets do
	return &http.Client{
		Transport: t,
		// A kubelet follows a redirect to the same host, which is this pod: the
		// questions in between are no declared probes, so the proxy asks them.
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse
			}
			if len(via) >= 10 {
				return fmt.Errorf("stopped after 10 redirects")
			}
			return nil
		},
	}
}

// askHTTP asks the workload and returns its status.
func (p *Proxy) askHTTP(ctx context.Context, q *httpQuestion, agent string, dst netip.AddrPort) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	release, err := q.slots.take(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, string(q.probe.Kind)+"://"+dst.String()+q.target, nil)
	if err != nil {
		return 0, err
	}
	r.Header = q.header.Clone()
	r.Host = q.probe.Host
	r.Header.Set("User-Agent", agent) // net/http sends none when it is empty
	if _, ok := r.Header["Accept"]; !ok {
		r.Header.Set("Accept", "*/*")
	}
	res, err := p.asker.Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if _, err := io.CopyN(io.Discard, res.Body, maxProbeBody); err != nil && err != io.EOF {
		return 0, err
	}
	return res.StatusCode, nil
}

// answerHTTP asks the workload and gives the client its status and nothing
// else. A client that says more than the question is refused as any other
// plaintext, one that leaves ends the question.
func (p *Proxy) answerHTTP(r *row, client *relay.Side, q *httpQuestion, agent string, dst netip.AddrPort) {
	var code int
	err := p.whileSilent(r, func(ctx context.Context) (err error) {
		code, err = p.askHTTP(ctx, q, agent, dst)
		return err
	})
	switch {
	case err == errSaidMore:
		p.refuseProbe(r)
		return
	case err != nil:
		r.note(err.Error())
		return
	}
	r.note(fmt.Sprintf("the workload answered %d", code))
	if client.SetDeadline(time.Now().Add(answerTimeout)) != nil {
		return
	}
	n, err := io.WriteString(client, statusOnly(code))
	r.meter.Sent.Add(uint64(n))
	if err == nil && client.Close() == nil {
		r.finishInOrder()
	}
}

// statusOnly is a response that carries its status and nothing else: also no
// Location, since a redirect that is left to be followed leads elsewhere, which
// kubelets do not follow.
func statusOnly(code int) string {
	length := "Content-Length: 0\r\n"
	switch {
	case code < 200: // 101 is the only one net/http returns: no answer to this
		code = http.StatusBadGateway
	case code == http.StatusNoContent, code == http.StatusNotModified:
		length = ""
	}
	return fmt.Sprintf("HTTP/1.1 %03d %s\r\n%sConnection: close\r\n\r\n", code, http.StatusText(code), length)
}

// note adds to why.
func (r *row) note(what string) {
	r.set(func(f *mesh.Connection) { f.Why += ": " + what })
}
