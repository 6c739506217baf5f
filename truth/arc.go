package truth

import (
	"slices"
	"time"

	"hasp/mesh"
)

// arc is the traffic from one node to another by a port, as each end has it.
type arc struct {
	way
	in, out          half
	clients, servers map[string]bool // workloads, "" among them for addresses
	parties          []Party
	gateway          bool // it goes to one
	service          string
	clientPort       uint16 // of the service
}

// half is what one end's proxies say.
type half struct {
	mutual, plain, refused, open uint64
	sums                         sums
	last                         time.Time  // of all its lines, also of those that did not move
	newest, handshake            *mesh.Edge // of those that moved
	plainest, barred             *mesh.Edge // the newest that was plaintext, that was refused
	rules                        []mesh.Origin
}

func (h *half) moved() bool { return h.newest != nil }

func (h *half) add(e *mesh.Edge, now sums) {
	// A connection from before the window that lives on, or ended in it, is of it too.
	n := max(now.Connections, e.Open, 1)
	switch {
	case !e.Allowed:
		h.refused = add(h.refused, n)
		if h.barred == nil || e.Last.After(h.barred.Last) {
			h.barred = e
		}
	case e.Security == mesh.MutualTLS:
		h.mutual = add(h.mutual, n)
	default:
		h.plain = add(h.plain, n)
		if h.plainest == nil || e.Last.After(h.plainest.Last) {
			h.plainest = e
		}
	}
	h.open = add(h.open, e.Open)
	h.sums = h.sums.add(now)
	if h.newest == nil || e.Last.After(h.newest.Last) {
		h.newest = e
	}
	if e.Handshake != nil && (h.handshake == nil || e.Handshake.At.After(h.handshake.Handshake.At)) {
		h.handshake = e
	}
	if e.Rule.Name != "" && !slices.Contains(h.rules, e.Rule) {
		h.rules = append(h.rules, e.Rule)
	}
}

// seen is which ends have it. One whose line did not move in the window counts
// if it did not end long before the other's.
func (a *arc) seen() string {
	has := func(h, other *half) bool { return h.moved() || !h.last.Before(other.last.Add(-clockError)) }
	switch {
	case !has(&a.in, &a.out):
		return "source"
	case !has(&a.out, &a.in):
		return "destination"
	}
	return "both"
}

// differs: one end says that all is mutual TLS and the other that none is.
// Certificates of a client's own files (MUTUAL) are TLS that the server's proxy
// passes on.
func (a *arc) differs() bool {
	all := func(h *half) bool { return h.mutual > 0 && h.plain == 0 }
	none := func(h *half) bool { return h.mutual == 0 && h.plain > 0 }
	return none(&a.in) && all(&a.out) && a.in.plainest.Security == mesh.Plaintext || all(&a.in) && none(&a.out)
}

// whyOf says why it was plaintext, if some of it was: the client's proxy, which
// chose, before the server's. Otherwise why somebody was refused. Mutual TLS needs
// no reason.
func whyOf(a *arc) string {
	newest := []*mesh.Edge{a.out.plainest, a.in.plainest}
	if newest[0] == nil && newest[1] == nil {
		newest = []*mesh.Edge{a.in.barred, a.out.barred}
	}
	for _, e := range newest {
		if e != nil && e.Why != "" {
			return e.Why
		}
	}
	return ""
}

// newestHandshake as the client sees it.
func (a *arc) newestHandshake() *mesh.Handshake {
	e := a.out.handshake
	if in := a.in.handshake; e == nil || in != nil && in.Handshake.At.After(e.Handshake.At) {
		e = in
	}
	return asClient(e)
}

// asClient is the handshake of an edge with the client as the local end.
func asClient(e *mesh.Edge) *mesh.Handshake {
	if e == nil || e.Handshake == nil {
		return nil
	}
	h := *e.Handshake
	if e.Direction == mesh.InboundDir {
		h.LocalIdentity, h.PeerIdentity = h.PeerIdentity, h.LocalIdentity
	}
	return &h
}
