package client

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"hasp/xds"
)

const (
	// maxAsked bounds the services, and the peers, that a proxy asks for.
	maxAsked = 8192
	// unusedFor is how long nobody may have needed something before it is
	// forgotten; where there are too many, unusedAWhile is enough.
	unusedFor    = 10 * time.Minute
	unusedAWhile = time.Minute
)

// Why there is no answer.
var (
	errAway    = errors.New("the control plane is away")
	errTooMany = errors.New("too many addresses are asked for")
)

// Demand is what a proxy asks the control plane for, and whether that has answered:
// then the configuration in force says all there is about the address, be it that
// nothing is there. What was answered stays so, since the stream keeps it up to
// date, until it is forgotten for want of use. While the control plane is away
// nothing is forgotten.
//
// Its exported methods are the proxy's, and may be called from any goroutine.
type Demand struct {
	services table[netip.AddrPort]
	peers    table[netip.Addr]

	mu        sync.Mutex
	connected bool
	news      chan struct{} // holds a token when what is asked for changed
}

// NewDemand asks for nothing yet.
func NewDemand() *Demand {
	d := &Demand{news: make(chan struct{}, 1)}
	d.services.news, d.peers.news = d.news, d.news
	d.services.connected, d.peers.connected = d.isConnected, d.isConnected
	return d
}

// Service asks for the service at an address and waits for the answer. The error
// says why there is none.
func (d *Demand) Service(ctx context.Context, a netip.AddrPort) error {
	return d.await(ctx, d.services.ask(a, time.Now()))
}

// Peer asks for the workload at an address and waits for the answer, but not while
// the control plane is away.
func (d *Demand) Peer(ctx context.Context, a netip.Addr) error {
	e := d.peers.ask(a, time.Now())
	if e != nil && !e.isAnswered() && !d.isConnected() {
		return errAway
	}
	return d.await(ctx, e)
}

// KnowsService reports whether the answer about an address is there.
func (d *Demand) KnowsService(a netip.AddrPort) bool { return d.services.knows(a) }

// KnowsPeer is the same for a peer.
func (d *Demand) KnowsPeer(a netip.Addr) bool { return d.peers.knows(a) }

// Keep says what is in use, which is asked for if it was not, and forgets what has
// not been for a while.
func (d *Demand) Keep(services []netip.AddrPort, peers []netip.Addr) {
	now := time.Now()
	for _, a := range services {
		d.services.ask(a, now)
	}
	for _, a := range peers {
		d.peers.ask(a, now)
	}
	d.services.forget(now.Add(-unusedFor))
	d.peers.forget(now.Add(-unusedFor))
}

// Size is how many services and peers are asked for.
func (d *Demand) Size() (services, peers int) { return d.services.size(), d.peers.size() }

func (d *Demand) isConnected() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.connected
}

func (d *Demand) setConnected(is bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.connected = is
}

func (d *Demand) await(ctx context.Context, e *entry) error {
	if e == nil {
		return errTooMany
	}
	select {
	case <-e.answered:
		return nil
	default:
	}
	select {
	case <-e.answered:
		return nil
	case <-ctx.Done():
		if !d.isConnected() {
			return errAway
		}
		return context.Cause(ctx)
	}
}

// entry is one address that is asked for.
type entry struct {
	answered chan struct{} // closed
	used     atomic.Int64  // unix nanoseconds
}

func (e *entry) isAnswered() bool {
	select {
	case <-e.answered:
		return true
	default:
		return false
	}
}

// table of what is asked for.
type table[K comparable] struct {
	news      chan struct{}
	connected func() bool // what is forgotten can be asked for anew

	mu      sync.RWMutex
	entries map[K]*entry
}

// knows whether k is answered, which is a use of it.
func (t *table[K]) knows(k K) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.entries[k]
	if e == nil || !e.isAnswered() {
		return false
	}
	e.used.Store(time.Now().UnixNano())
	return true
}

func (t *table[K]) size() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.entries)
}

// ask for k, if nobody did. It is nil when there is no room.
func (t *table[K]) ask(k K, now time.Time) *entry {
	t.mu.RLock()
	e := t.entries[k]
	t.mu.RUnlock()
	if e != nil {
		e.used.Store(now.UnixNano())
		return e
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[k]; e != nil {
		e.used.Store(now.UnixNano())
		return e
	}
	if len(t.entries) >= maxAsked {
		t.drop(now.Add(-unusedAWhile))
		if len(t.entries) >= maxAsked {
			return nil
		}
	}
	if t.entries == nil {
		t.entries = map[K]*entry{}
	}
	e = &entry{answered: make(chan struct{})}
	e.used.Store(now.UnixNano())
	t.entries[k] = e
	t.poke()
	return e
}

func (t *table[K]) poke() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// forget what was not used since.
func (t *table[K]) forget(since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(since)
}

// drop is forget, for those who hold mu.
func (t *table[K]) drop(since time.Time) {
	if !t.connected() {
		return
	}
	for k, e := range t.entries {
		if e.used.Load() < since.UnixNano() {
			delete(t.entries, k)
			t.poke()
		}
	}
}

// names of all that is asked for.
func (t *table[K]) names(name func(K) string) map[string]bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make(map[string]bool, len(t.entries))
	for k := range t.entries {
		out[name(k)] = true
	}
	return out
}

// answer those whose answer has come.
func (t *table[K]) answer(has func(K) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, e := range t.entries {
		if !e.isAnswered() && has(k) {
			close(e.answered)
		}
	}
}

// again: no answer counts any more.
func (t *table[K]) again() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, e := range t.entries {
		if e.isAnswered() {
			n := &entry{answered: make(chan struct{})}
			n.used.Store(e.used.Load())
			t.entries[k] = n
		}
	}
}

// wanted are the names of a type that are asked for.
func (d *Demand) wanted(kind string) map[string]bool {
	switch kind {
	case xds.ListenerType:
		return d.services.names(xds.ServiceName)
	case xds.EndpointType:
		return d.peers.names(xds.PeerName)
	}
	return nil
}

// answer what has is true of, by type and name.
func (d *Demand) answer(has func(kind, name string) bool) {
	d.services.answer(func(a netip.AddrPort) bool { return has(xds.ListenerType, xds.ServiceName(a)) })
	d.peers.answer(func(a netip.Addr) bool { return has(xds.EndpointType, xds.PeerName(a)) })
}

// again asks for everything anew.
func (d *Demand) again() {
	d.services.again()
	d.peers.again()
}
