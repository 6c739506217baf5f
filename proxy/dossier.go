package proxy

import (
	"encoding/hex"
	"net/netip"
	"time"
	"unique"

	"hasp/mesh"
)

// dossier is the facts of one connection. Folded, they take a fifth of what they
// take otherwise: most of them are the same for all connections between two
// workloads, and are there once.
type dossier struct {
	open *mesh.Connection // nil while it is folded
	same unique.Handle[mesh.Connection]
	own  ownFacts
}

// ownFacts are what a connection has to itself, but for what its row counts.
type ownFacts struct {
	trace             [8]byte
	source, local     uint16 // ports
	reused            uint32
	start, handshaken time.Time
}

func (d *dossier) folded() bool { return d.open == nil }

// read is all of the facts.
func (d *dossier) read(id uint64) mesh.Connection {
	if d.open != nil {
		return *d.open
	}
	f, own := d.same.Value(), &d.own
	f.ID, f.Trace = id, hex.EncodeToString(own.trace[:])
	f.Source, f.Local = withPort(f.Source, own.source), withPort(f.Local, own.local)
	f.Reused, f.HandshakeAt = own.reused, own.handshaken
	f.Start, f.LastSeen = own.start, own.start
	return f
}

// write is the facts to be changed, until they are folded again.
func (d *dossier) write(id uint64) *mesh.Connection {
	if d.open == nil {
		f := d.read(id)
		d.open, d.same = &f, unique.Handle[mesh.Connection]{}
	}
	return d.open
}

// fold makes facts small that seldom change from now on. Counters and the like,
// which the row has, are not kept.
func (d *dossier) fold() {
	f := d.open
	if f == nil {
		return
	}
	own := ownFacts{source: f.Source.Port(), local: f.Local.Port(), reused: f.Reused, start: f.Start, handshaken: f.HandshakeAt}
	if len(f.Trace) != 2*len(own.trace) {
		return // it has none yet
	}
	if _, err := hex.Decode(own.trace[:], []byte(f.Trace)); err != nil {
		return
	}
	same := *f
	same.ID, same.Trace, same.Reused = 0, "", 0
	same.Source, same.Local = withPort(f.Source, 0), withPort(f.Local, 0)
	same.Start, same.LastSeen, same.HandshakeAt = time.Time{}, time.Time{}, time.Time{}
	same.Sent, same.Received, same.Requests, same.Errors = 0, 0, 0, 0
	d.open, d.same, d.own = nil, unique.Make(same), own
}

func withPort(a netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), port)
}
