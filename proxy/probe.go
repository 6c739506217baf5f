package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

const (
	// askTimeout bounds how long the workload is asked for a probe. A kubelet
	// with a smaller timeoutSeconds leaves earlier, and the question ends then.
	askTimeout = time.Minute
	// askAtOnce bounds how often one probe is asked at the same time; more wait.
	askAtOnce = 4
	// answerTimeout bounds how long an answer may take to be sent.
	answerTimeout = 5 * time.Second
)

// probes are the questions that kubelets ask the workload in plaintext, made
// ready for use: by port.
type probes struct {
	ports map[uint16]*portProbes
	// doors are the ports with TCP probes, ascending: mesh.ProbeDoor+n is the
	// door of the n-th.
	doors []uint16
}

// portProbes is what is asked on one port.
type portProbes struct {
	tcp         bool
	http, https []*httpQuestion
	grpc        []*healthQuestion
}

// newProbes sorts the declared probes. A probe that no kubelet can ask is left
// out, and what is wrong with it is in the error.
func newProbes(list []mesh.Probe) (*probes, error) {
	ps := &probes{ports: make(map[uint16]*portProbes)}
	var wrong []error
	for _, d := range list {
		at := ps.ports[d.Port]
		if at == nil {
			at = &portProbes{}
			ps.ports[d.Port] = at
		}
		if err := at.add(d); err != nil {
			wrong = append(wrong, fmt.Errorf("probe of port %d: %w", d.Port, err))
		}
	}
	var asked []uint16
	for port, at := range ps.ports {
		if at.tcp {
			asked = append(asked, port)
		}
	}
	// A connection to a port without a door always succeeds.
	ps.doors = mesh.DoorPorts(asked)
	return ps, errors.Join(wrong...)
}

func (at *portProbes) add(d mesh.Probe) error {
	switch d.Kind {
	case mesh.ProbeTCP:
		at.tcp = true
	case mesh.ProbeGRPC:
		at.grpc = append(at.grpc, newHealthQuestion(d))
	case mesh.ProbeHTTP, mesh.ProbeHTTPS:
		q, err := newHTTPQuestion(d)
		if err != nil {
			return err
		}
		if d.Kind == mesh.ProbeHTTP {
			at.http = append(at.http, q)
		} else {
			at.https = append(at.https, q)
		}
	default:
		return fmt.Errorf("kind %q: known are http, https, tcp and grpc", d.Kind)
	}
	return nil
}

// at is what is asked on a port; nothing on most.
func (ps *probes) at(port uint16) *portProbes {
	if at := ps.ports[port]; at != nil {
		return at
	}
	return &portProbes{}
}

// any tells whether anything is asked on a port.
func (ps *probes) any(port uint16) bool { return ps.ports[port] != nil }

// asked looks for a declared question at a client that is to be refused
// otherwise. first is its first byte, or silent says why none came; a read
// deadline must be set. If the client asks one and says nothing besides,
// a.answer asks the workload and answers, to be called once the connection is
// settled. An error means that there is nobody left to refuse.
//
// Not a byte of the client reaches the workload, whatever it is: what the
// workload is asked is made anew of what the pod declares.
func (p *Proxy) asked(r *row, s *settings, dst netip.AddrPort, a *arrival, first byte, silent error) error {
	at := p.probes.at(dst.Port())
	switch {
	case silent != nil:
		if at.tcp && gone(silent) {
			p.probed(r, "TCP probe: the client said nothing")
			a.answer = r.finishInOrder
		}
	case first == recordHandshake && len(at.https) > 0:
		return p.askedInTLS(r, s, dst, a, nil)
	case len(at.http) > 0 || len(at.grpc) > 0:
		p.askedInPlaintext(r, dst, a, at)
	}
	return nil
}

func (p *Proxy) askedInPlaintext(r *row, dst netip.AddrPort, a *arrival, at *portProbes) {
	head, err := readUntil(a.client, func(b []byte) progress {
		return max(scanPreface(at.grpc, b), scanHTTP(at.http, b))
	})
	switch {
	case err != nil:
	case scanPreface(at.grpc, head) == whole:
		p.probed(r, "gRPC probe")
		a.answer = func() { p.serveHealth(r, head, dst, at.grpc) }
	default:
		a.answer = p.matched(r, a.client, head, at.http, dst)
	}
	if a.answer == nil {
		a.client = relay.TCP(r.client, head) // should it be let in after all
	}
}

// askedInTLS runs the server's handshake with whoever comes. A client without a
// certificate is let through to the workload by nobody, since it takes the proxy
// for its server. head is what was read already.
func (p *Proxy) askedInTLS(r *row, s *settings, dst netip.AddrPort, a *arrival, head []byte) (err error) {
	a.client, err = p.terminate(r, p.server.probeConfig(s.minTLS), head)
	if err != nil || r.snapshot().Security == mesh.MutualTLS {
		return err
	}
	questions := p.probes.at(dst.Port()).https
	question, err := readUntil(a.client, func(b []byte) progress { return scanHTTP(questions, b) })
	if err == nil {
		a.answer = p.matched(r, a.client, question, questions, dst)
	}
	if a.answer == nil {
		a.answer = func() { r.refuse(errNoProbe.Error()) }
	}
	return nil
}

// matched answers the question that a request head asks, if it is one.
func (p *Proxy) matched(r *row, client *relay.Side, head []byte, questions []*httpQuestion, dst netip.AddrPort) func() {
	q, agent := matchHTTP(questions, head, dst)
	if q == nil {
		return nil
	}
	p.probed(r, q.String())
	return func() { p.answerHTTP(r, client, q, agent, dst) }
}

// gone tells whether a client ended its connection, one way or the other.
func gone(err error) bool { return err == io.EOF || errors.Is(err, syscall.ECONNRESET) }

// probed notes that a connection is a probe.
func (p *Proxy) probed(r *row, what string) {
	r.set(func(f *mesh.Connection) { f.Security, f.Why = mesh.Probed, what })
}

var errNoProbe = errors.New("not a declared probe")

// slots bound how often one probe is asked at the same time.
type slots chan struct{}

// take waits for a free one; the function gives it back.
func (s slots) take(ctx context.Context) (release func(), err error) {
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// passedProbe notes, when a connection ends that was carried to the workload in
// plaintext, that it was a probe and nothing besides: whoever looks for peers
// without TLS looks for no kubelet. While it lives it is what it speaks, so that
// a change to STRICT ends it.
func (p *Proxy) passedProbe(r *row, o *observer) {
	f := r.snapshot()
	switch q := o.probe.Load(); {
	case f.Security != mesh.Plaintext || f.Direction != mesh.InboundDir:
	case q != nil:
		p.probed(r, q.String()+", passed to the workload")
	case f.Received == 0 && p.probes.at(f.Destination.Port()).tcp:
		p.probed(r, "TCP probe: the client said nothing")
	}
}

// progress is how far some bytes are towards something that is waited for. The
// greater one counts where two things are waited for.
type progress int

const (
	never progress = iota // these bytes are the beginning of something else
	more                  // they may become it
	whole                 // they are it
)

// maxProbeHead bounds what is read of a probe.
const maxProbeHead = 8 << 10

// readUntil reads until the bytes are whole. An error means that they never
// will be; what was read is returned all the same.
func readUntil(from io.Reader, scan func([]byte) progress) ([]byte, error) {
	buf := make([]byte, maxProbeHead)
	for n := 0; n < len(buf); {
		m, err := from.Read(buf[n:])
		n += m
		switch scan(buf[:n]) {
		case whole:
			return buf[:n], nil
		case never:
			return buf[:n], errNoProbe
		}
		if err != nil {
			return buf[:n], err
		}
	}
	return buf, errNoProbe
}
