package proxy

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// row is one connection: its facts, and the handles to end it from outside.
type row struct {
	id      uint64       // facts.ID, to be read without the lock
	begun   int64        // when it was entered, in Unix nanoseconds, likewise
	client  *net.TCPConn // nil for a gateway's connections to its clusters
	meter   relay.Meter
	account account
	told    told
	slot    int32        // in table.live, under the table's lock
	carries atomic.Int32 // requests of a gateway
	frames  atomic.Int32 // goroutines that are, or will be, about it (Proxy.frame)
	// revision grows with every change of facts.
	revision atomic.Uint32

	mu       sync.Mutex
	facts    dossier
	upstream *net.TCPConn
	// sides are what the relay has, which owns the sockets from then on.
	sides  [2]*relay.Side
	trunk  *trunk     // that one of them is, or nil
	watch  *httpWatch // on HTTP ports, from when bytes move
	series *series    // its counters, from when it was let in
	tcp    *tcpSeries // nil for HTTP, which counts requests instead
	// upstreamBroke is set when it ended because of the upstream.
	upstreamBroke bool
	orderly       bool // ended by both peers in order
	settled       bool // decided about
	cut           bool
	ended         bool
	helloSeen     bool // the trace is of a ClientHello
	hand          *hand
	// finishBy is set while it may only finish the response it is in (cut.go).
	finishBy time.Time
}

func (r *row) isSettled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled
}

// set changes facts under the row's lock.
func (r *row) set(change func(f *mesh.Connection)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(change)
}

// write is set for callers that hold mu.
func (r *row) write(change func(f *mesh.Connection)) {
	r.revision.Add(1)
	folded := r.facts.folded()
	change(r.facts.write(r.id))
	if folded {
		r.facts.fold()
	}
}

// refuse notes why the connection was not let through; ending it is the
// caller's next step. The first reason stands.
func (r *row) refuse(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return
	}
	r.revision.Add(1)
	f := r.facts.write(r.id)
	f.Allowed, f.Why = false, cutTo(why, maxSentence)
	r.traceRefused()
}

// attach notes the upstream connection, so that a cut ends it too. It returns
// false when the connection was cut meanwhile; up is then reset.
func (r *row) attach(up *net.TCPConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		relay.Reset(up)
		return false
	}
	r.revision.Add(1)
	r.upstream = up
	f := r.facts.write(r.id)
	f.Local, f.Upstream = addrPort(up.LocalAddr()), addrPort(up.RemoteAddr())
	if r.client == nil && f.Direction == mesh.OutboundDir {
		f.Source = f.Local
	}
	if f.Direction == mesh.OutboundDir {
		f.Trace = mesh.TraceOf(nil, f.Local, f.Upstream)
	}
	return true
}

// hurry gives a client of a port that now requires TLS, and that has said
// nothing yet, the time of a handshake to say it. Before, on a PERMISSIVE port,
// it could take as long as it liked.
func (r *row) hurry(s *settings, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.facts.read(r.id)
	if f.Direction != mesh.InboundDir || f.Security != mesh.Unknown || r.client == nil || r.ended || decide(s, &f).Allow {
		return
	}
	_ = r.client.SetReadDeadline(time.Now().Add(d)) // fails only on a closed socket
}

// noDeadline gives the client all the time it likes.
func (r *row) noDeadline() error {
	r.mu.Lock()
	side := r.sides[0]
	r.mu.Unlock()
	switch {
	case side != nil: // a relay had it, and the socket is the side's since
		return side.SetDeadline(time.Time{})
	case r.client != nil:
		return r.client.SetDeadline(time.Time{})
	}
	return nil
}

// finishInOrder notes that both peers ended their streams.
func (r *row) finishInOrder() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.orderly = true
}

func (r *row) watchHTTP(w *httpWatch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watch = w
}

// end closes the sockets and returns the final facts.
func (r *row) end(now time.Time) mesh.Connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closeSockets(!r.orderly)
	r.ended = true
	f := r.merged()
	f.End = now
	return f
}

// carriedBy notes that a relay is about to move the bytes between two sides;
// false when the connection was cut meanwhile.
func (r *row) carriedBy(client, up *relay.Side) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return false
	}
	r.sides = [2]*relay.Side{client, up}
	if r.client != nil {
		r.client = handed
	}
	r.upstream = handed
	r.facts.fold()
	return true
}

// handed stands for a socket that a side has: what the net package keeps of a
// connection is a tenth of a silent one.
var handed = new(net.TCPConn)

// age is how long ago it was entered.
func (r *row) age(now time.Time) time.Duration { return time.Duration(now.UnixNano() - r.begun) }

func (r *row) closeSockets(reset bool) {
	if r.trunk != nil {
		r.trunk.hear(0)
	}
	for _, s := range r.sides {
		switch {
		case s == nil:
		case reset:
			s.Reset()
		default:
			s.Close()
		}
	}
	for _, c := range []*net.TCPConn{r.client, r.upstream} {
		switch {
		case c == nil:
		case reset:
			relay.Reset(c)
		default:
			c.Close()
		}
	}
}

func (r *row) snapshot() mesh.Connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.merged()
}

// merged is the facts with the counters as they stand. Callers hold mu.
func (r *row) merged() mesh.Connection {
	f := r.facts.read(r.id)
	f.Sent, f.Received = r.meter.Sent.Load(), r.meter.Received.Load()
	if seen := r.meter.LastSeen(); !seen.IsZero() {
		f.LastSeen = seen
	}
	f.Requests, f.Errors = r.account.requests.Load(), r.account.errors.Load()
	if r.watch != nil {
		f.Requests = max(f.Requests, r.watch.requests()) // also those that wait for their answer
	}
	return f
}

// tlsFacts takes down what a handshake agreed on.
func tlsFacts(f *mesh.Connection, cs *tls.ConnectionState) {
	f.TLS = tlsVersion(cs.Version)
	f.Group = cs.CurveID.String()
	f.Cipher = cipherName(cs.CipherSuite)
	f.ALPN = cs.NegotiatedProtocol
	f.Resumed = cs.DidResume
}

// cipherNames are crypto/tls's, which makes its list anew each time.
var cipherNames = sync.OnceValue(func() map[uint16]string {
	names := make(map[uint16]string)
	for _, c := range tls.CipherSuites() {
		names[c.ID] = c.Name
	}
	return names
})

func cipherName(suite uint16) string {
	if name := cipherNames()[suite]; name != "" {
		return name
	}
	return tls.CipherSuiteName(suite)
}

func tlsVersion(v uint16) string {
	switch v {
	case tls.VersionTLS13:
		return "1.3"
	case tls.VersionTLS12:
		return "1.2"
	}
	return tls.VersionName(v)
}

// addrPort is a TCP address with v4-mapped v6 undone.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
