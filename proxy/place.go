package proxy

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"hasp/mesh"
)

// How much the ledger holds. Workloads and strangers have room of their own, so
// that a flood of strangers pushes out no line about a workload.
const (
	maxKnownLines    = 1024
	maxStrangerLines = 512 // about single addresses
	maxNetworkLines  = 256 // about the networks of the other addresses
	// A workload or address that is met in more ways than this has the rest of
	// them summed up under port 0: one that scans ports is one line.
	maxLinesOfPeer     = 64
	maxLinesOfStranger = 16
	// idleLine is how long nothing may have happened to a line before it makes
	// room for a new one.
	idleLine = 10 * time.Minute
)

// region is a part of the ledger with a bound of its own.
type region int

const (
	knownPeers region = iota
	strangers
	networks
	remainder // bounded by its few keys
	regions
)

var regionSize = [regions]int{knownPeers: maxKnownLines, strangers: maxStrangerLines, networks: maxNetworkLines}

// place is the line for a key, made if there is room, else one that sums up.
// Callers hold mu.
func (g *ledger) place(key mesh.EdgeKey, now time.Time) *line {
	if l := g.lines[key]; l != nil {
		return l
	}
	if known(&key) {
		if l := g.room(knownPeers, key, maxLinesOfPeer, now); l != nil {
			return l
		}
	} else if key.PeerNet.IsValid() {
		if l := g.room(strangers, key, maxLinesOfStranger, now); l != nil {
			return l
		}
		bits := 64
		if key.PeerNet.Addr().Is4() {
			bits = 24
		}
		net := key
		net.PeerNet, _ = key.PeerNet.Addr().Prefix(bits) // no error: the length fits the family
		if l := g.room(networks, net, maxLinesOfStranger, now); l != nil {
			return l
		}
	}
	rest := mesh.EdgeKey{Direction: key.Direction, Security: key.Security, Allowed: key.Allowed}
	if l := g.lines[rest]; l != nil {
		return l
	}
	return g.add(remainder, rest, now)
}

// room is the line for a key in a region, nil when there is none and no room to
// make it.
func (g *ledger) room(in region, key mesh.EdgeKey, most int, now time.Time) *line {
	if l := g.lines[key]; l != nil {
		return l
	}
	if g.of[partyOf(&key)] >= most {
		key.Service, key.Port = "", 0
		if key.PeerIdentity != "" && key.Peer == "" {
			key.PeerNet = netip.Prefix{}
		}
		if l := g.lines[key]; l != nil {
			return l
		}
	}
	if g.used[in] >= regionSize[in] {
		g.dropIdle(in, now)
		if g.used[in] >= regionSize[in] {
			return nil
		}
	}
	return g.add(in, key, now)
}

func (g *ledger) add(in region, key mesh.EdgeKey, now time.Time) *line {
	l := &line{region: in, edge: mesh.Edge{EdgeKey: key, First: now}}
	g.lines[key] = l
	g.used[in]++
	g.of[partyOf(&key)]++
	return l
}

func (g *ledger) remove(l *line) {
	if g.lines[l.edge.EdgeKey] != l {
		return // it is not there any more
	}
	delete(g.lines, l.edge.EdgeKey)
	g.used[l.region]--
	who := partyOf(&l.edge.EdgeKey)
	if g.of[who]--; g.of[who] == 0 {
		delete(g.of, who)
	}
}

// dropIdle forgets lines of a region about which all has been told and to which
// nothing happens any more. It looks at all of them, so it does not do so often.
func (g *ledger) dropIdle(in region, now time.Time) {
	if now.Sub(g.tried[in]) < idleLine/10 {
		return
	}
	g.tried[in] = now
	for _, l := range g.lines {
		if l.region == in && l.edge.Open == 0 && !l.fresh.Load() && now.Sub(l.edge.Last) >= idleLine {
			g.remove(l)
		}
	}
}

// party is whom a line is about.
type party struct {
	name string // workload, else identity
	net  netip.Prefix
}

func partyOf(k *mesh.EdgeKey) party {
	switch {
	case k.Peer != "":
		return party{name: k.Peer}
	case known(k):
		return party{name: k.PeerIdentity}
	}
	return party{net: k.PeerNet}
}

// known tells whether a line is about a workload: the directory or mutual TLS
// says so.
func known(k *mesh.EdgeKey) bool {
	return k.Peer != "" || k.Security == mesh.MutualTLS && k.PeerIdentity != ""
}

// edgeKey is the line a connection belongs to.
func edgeKey(f *mesh.Connection) mesh.EdgeKey {
	k := mesh.EdgeKey{
		Direction: f.Direction, Peer: word(f.PeerWorkload), Service: word(f.Service), Port: f.Destination.Port(),
		Security: f.Security, Allowed: f.Allowed,
	}
	if f.Security == mesh.MutualTLS || f.Security == mesh.SimpleTLS {
		k.PeerIdentity = word(f.PeerIdentity)
	}
	if !f.Destination.IsValid() {
		k.Port = clusterPort(f.Cluster)
	}
	if k.Peer == "" {
		k.PeerNet = single(peerAddr(f))
	}
	return k
}

// peerAddr is the address of the other workload.
func peerAddr(f *mesh.Connection) netip.Addr {
	switch {
	case f.Direction == mesh.InboundDir:
		return f.Source.Addr()
	case f.Upstream.IsValid():
		return f.Upstream.Addr()
	}
	return f.Destination.Addr()
}

func single(a netip.Addr) netip.Prefix {
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// clusterPort is the port in a cluster's name: outbound|8080||boards.shop...
func clusterPort(name string) (port uint16) {
	_, rest, _ := strings.Cut(name, "|")
	digits, _, _ := strings.Cut(rest, "|")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}
