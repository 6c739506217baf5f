package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"sync"
	"time"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// A trunk is a mutual TLS connection between two proxies that carries one
// connection of applications after another, so that a short one does not pay for
// a handshake. Both proxies agree to it by ALPN (alpnTrunk). The first
// connection on a trunk is as on any other, but for its end, which is a record of
// no length in each direction. For each further one the client's proxy sends a
// record that says hello; the server's decides and dials as for a new connection,
// answers with a record, and resets the trunk unless that was a welcome. Until
// then no byte of the application has left the client's proxy, so that it can take
// a fresh connection when the trunk turns out to be gone.
//
// Nothing is remembered but the handshake: whether a certificate is still good is
// asked for each connection, and so is the policy.
type trunk struct {
	p     *Proxy
	side  *relay.Side
	state *tls.ConnectionState
	hand  *hand
	// local and remote are the addresses of its socket; but a server's local one is
	// where it was made to before it was redirected.
	local, remote netip.AddrPort
	how           string    // of the client's key
	shaken        time.Time // when the handshake was

	// carried counts the connections; only who has the trunk looks at it.
	carried uint32

	inbound bool // it is the server's
	// Under the pool's lock.
	idle  bool
	slot  int32 // among the idle of its key
	timer *time.Timer

	answer chan byte // what the server said to a hello; not there before the second connection
}

// alpnTrunk is offered before "istio", which every proxy of a mesh understands.
const alpnTrunk = "hasp/1"

// trunkKey is an endpoint with all that decides how it may be spoken to.
type trunkKey struct {
	addr netip.AddrPort
	how  string
}

const (
	// The client lets go first, so that a server seldom closes what is about to
	// be used.
	trunkIdleClient = 30 * time.Second
	trunkIdleServer = 75 * time.Second
	// How many may be idle: of one endpoint, and in all.
	maxIdleOfKey    = 64
	maxIdleOutbound = 1024
	maxIdleInbound  = 4096
)

var (
	errTrunkOld  = errors.New("the certificate shown on it is another today")
	errTrunkSaid = errors.New("the peer said something between two connections")
)

// trunks are the idle ones.
type trunks struct {
	mu       sync.Mutex
	closed   bool
	outbound map[trunkKey][]*trunk // the last one used is the last
	nOut     int
	inbound  map[*trunk]struct{}
}

func newTrunks() *trunks {
	return &trunks{outbound: make(map[trunkKey][]*trunk), inbound: make(map[*trunk]struct{})}
}

// newTrunk makes a trunk of a connection whose handshake agreed to be one.
func (p *Proxy) newTrunk(r *row, side *relay.Side, cs *tls.ConnectionState, h *hand) *trunk {
	side.InBand()
	t := &trunk{p: p, side: side, state: p.certs.state(cs), hand: h, shaken: p.cfg.Now()}
	t.local, t.remote = addrPort(side.LocalAddr()), addrPort(side.RemoteAddr())
	r.mu.Lock()
	r.trunk = t
	r.mu.Unlock()
	return t
}

// key is what a client finds its idle trunks by.
func (t *trunk) key() trunkKey { return trunkKey{t.remote, t.how} }

// good tells whether the handshake would come out the same today.
func (t *trunk) good() error {
	id := t.p.cfg.Identity
	own, err := id.Certificate()
	if err != nil {
		return err
	}
	if own.Leaf != t.hand.own {
		return errTrunkOld
	}
	use := x509.ExtKeyUsageServerAuth
	if t.inbound {
		use = x509.ExtKeyUsageClientAuth
	}
	_, err = verifyPeer(t.state, id, use, t.p.cfg.Now())
	return err
}

// facts are what a connection on the trunk has from it.
func (t *trunk) facts(f *mesh.Connection) {
	tlsFacts(f, t.state)
	f.Security = mesh.MutualTLS
	f.Reused, f.HandshakeAt = t.carried, t.shaken
	if id, err := peerIdentity(t.state); err == nil {
		f.PeerIdentity = id.String()
	}
}

// keep takes a trunk whose connection has ended in order; false when there is no
// room for it, and the caller closes it.
func (ts *trunks) keep(t *trunk) bool {
	t.carried++
	ts.mu.Lock()
	defer ts.mu.Unlock()
	after := trunkIdleClient
	switch {
	case ts.closed:
		return false
	case t.inbound:
		if len(ts.inbound) >= maxIdleInbound {
			return false
		}
		ts.inbound[t] = struct{}{}
		after = trunkIdleServer
	default:
		same := ts.outbound[t.key()]
		if len(same) >= maxIdleOfKey || ts.nOut >= maxIdleOutbound {
			return false
		}
		if t.answer == nil { // before anybody can ask
			t.answer = make(chan byte, 1)
		}
		t.slot = int32(len(same))
		ts.outbound[t.key()] = append(same, t)
		ts.nOut++
	}
	t.idle = true
	if t.timer == nil {
		t.timer = time.AfterFunc(after, t.expire)
	} else {
		t.timer.Reset(after)
	}
	return true
}

// take is an idle trunk of the key, or nil: the one used last, so that the others
// grow old.
func (ts *trunks) take(key trunkKey) *trunk {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	same := ts.outbound[key]
	if len(same) == 0 {
		return nil
	}
	t := same[len(same)-1]
	ts.drop(t)
	return t
}

// shun closes the idle trunks of a key.
func (ts *trunks) shun(key trunkKey) {
	for t := ts.take(key); t != nil; t = ts.take(key) {
		t.side.Close()
	}
}

// claim takes a given trunk; false when it is not idle any more. A connection
// that is to be on it is counted in conns before anybody can close the trunks, and
// then wait for the connections.
func (ts *trunks) claim(t *trunk, conns *sync.WaitGroup) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if !t.idle {
		return false
	}
	ts.drop(t)
	if conns != nil {
		conns.Add(1)
	}
	return true
}

// drop takes t out of the idle. Callers hold mu.
func (ts *trunks) drop(t *trunk) {
	t.idle = false
	t.timer.Stop()
	if t.inbound {
		delete(ts.inbound, t)
		return
	}
	same := ts.outbound[t.key()]
	last := len(same) - 1
	same[t.slot] = same[last]
	same[t.slot].slot = t.slot
	same[last] = nil
	if same = same[:last]; last == 0 {
		delete(ts.outbound, t.key())
	} else {
		ts.outbound[t.key()] = same
	}
	ts.nOut--
}

func (t *trunk) expire() {
	if t.p.trunks.claim(t, nil) {
		t.side.Close()
	}
}

// close ends the idle ones, and lets none become idle again.
func (ts *trunks) close() {
	ts.mu.Lock()
	var all []*trunk
	for _, same := range ts.outbound {
		all = append(all, same...)
	}
	for t := range ts.inbound {
		all = append(all, t)
	}
	for _, t := range all {
		ts.drop(t)
	}
	ts.closed = true
	ts.mu.Unlock()
	for _, t := range all {
		t.side.Close()
	}
}

// rest has the trunk that a connection was on, which ended in order, wait for
// another. It returns the side that must be left alone, if any.
func (p *Proxy) rest(r *row) *relay.Side {
	r.mu.Lock()
	t := r.trunk
	if t == nil || r.cut || !t.side.Kept() {
		r.mu.Unlock()
		return nil
	}
	for i, s := range r.sides {
		if s == t.side {
			r.sides[i] = nil
		}
	}
	r.trunk = nil
	r.mu.Unlock()
	switch {
	case !p.trunks.keep(t):
		t.side.Close()
	case t.inbound:
		t.side.Next(t.hello)
	default:
		t.side.Next(t.answered)
	}
	return t.side
}
