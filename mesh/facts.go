package mesh

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"time"
)

// TraceOf names a connection by what its two ends have in common: the random of
// the ClientHello (RFC 8446, section 4.1.2) that it begins with, whoever's TLS it
// is, else the addresses of its two sockets. It is FNV-1a in hex: a name, and no
// secret.
func TraceOf(clientRandom []byte, client, server netip.AddrPort) string {
	var room [2 * len("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535>")]byte
	from := clientRandom
	if len(from) == 0 {
		from = append(plainAddr(client).AppendTo(room[:0]), '>')
		from = plainAddr(server).AppendTo(from)
	}
	h := uint64(14695981039346656037)
	for _, b := range from {
		h = (h ^ uint64(b)) * 1099511628211
	}
	var out [8]byte
	binary.BigEndian.PutUint64(out[:], h)
	return hex.EncodeToString(out[:])
}

// plainAddr is an address without what only one end calls it by.
func plainAddr(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// EdgeKey is what tells one line of a proxy's ledger from another: between its
// workload and one peer, by one port, by one kind of speech.
type EdgeKey struct {
	// Node is the workload, NAMESPACE/NAME, whose proxy says so. The control plane
	// sets it from the certificate of whoever reports.
	Node      string    `json:"node"`
	Direction Direction `json:"direction"`
	// Peer is the other workload, NAMESPACE/NAME, "" when its address is nobody's.
	Peer string `json:"peer,omitempty"`
	// PeerNet is the other address when Peer is "": a single address, a network
	// when there were too many, or invalid for all that the ledger had no room for.
	PeerNet      netip.Prefix `json:"peerNet,omitzero"`
	PeerIdentity string       `json:"peerIdentity,omitempty"`
	Service      string       `json:"service,omitempty"` // hostname
	Port         uint16       `json:"port"`              // outbound: of the service; inbound: of the workload
	Security     Security     `json:"security"`
	Allowed      bool         `json:"allowed"`
}

// Edge is one line of a ledger: the sum of the connections of a key. The sums
// run from First on; a proxy that forgot the line and made it anew begins again
// with a later First.
type Edge struct {
	EdgeKey
	Protocol   Protocol  `json:"protocol,omitempty"`
	Why        string    `json:"why,omitempty"` // of the newest connection, as mode and rule
	Mode       string    `json:"mode,omitempty"`
	Rule       Origin    `json:"rule,omitzero"`
	Generation uint64    `json:"generation"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`

	// Connections that began; 0 when the only one turned out to be something
	// else, and the line is gone.
	Connections uint64 `json:"connections"`
	Open        uint64 `json:"open,omitempty"`
	Sent        uint64 `json:"sent"` // bytes, as in Connection
	Received    uint64 `json:"received"`
	// Requests that were answered or failed.
	Requests uint64 `json:"requests,omitempty"`
	Errors   uint64 `json:"errors,omitempty"`
	// Latency counts requests by how long they took: Latency[i] those of at most
	// LatencyBounds[i], the last one the slower ones. Nil when none were seen.
	Latency []uint64 `json:"latency,omitempty"`

	// Handshake is the newest one, nil when there was none.
	Handshake *Handshake `json:"handshake,omitempty"`
	// LastTrace is the newest connection's.
	LastTrace string `json:"lastTrace,omitempty"`
}

// LatencyBounds of Edge.Latency.
var LatencyBounds = []time.Duration{
	time.Millisecond / 2, time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second,
}

// Handshake is what two ends agreed on.
type Handshake struct {
	At            time.Time `json:"at"`
	TLS           string    `json:"tls"`
	Group         string    `json:"group,omitempty"`
	Cipher        string    `json:"cipher,omitempty"`
	ALPN          string    `json:"alpn,omitempty"`
	Resumed       bool      `json:"resumed,omitempty"`
	Reused        uint32    `json:"reused,omitempty"` // connections that had it before
	LocalIdentity string    `json:"localIdentity,omitempty"`
	PeerIdentity  string    `json:"peerIdentity,omitempty"`
}

// ReportConnections is how many connections a report has at most. One that has
// fewer has all that its proxy has to tell.
const ReportConnections = 500

// Report is what a proxy tells its control plane about itself: what changed
// since the report before.
type Report struct {
	// Node and Identity are of whoever reports, by its certificate: the receiver
	// sets them.
	Node     string `json:"node,omitempty"`
	Identity string `json:"identity,omitempty"`
	// Start of the proxy's process, and At, when the report was made, by its clock.
	Start time.Time `json:"start"`
	At    time.Time `json:"at"`
	// Generation of the configuration in force.
	Generation uint64 `json:"generation"`
	// Whole reports are the first of a stream and have all that the proxy knows,
	// which may go on in the next: what was told before of connections that live is
	// void if it is not told again by the first that has room left.
	Whole bool `json:"whole,omitempty"`
	// Gone says that the proxy reports no more: one control plane tells the others
	// what it is told, and this too.
	Gone bool `json:"gone,omitempty"`
	// Edges that changed, with their sums since First.
	Edges []Edge `json:"edges,omitempty"`
	// Connections that began, moved or ended.
	Connections []Connection `json:"connections,omitempty"`
	// Dropped counts the connections, since Start, that were not told of singly
	// because there were too many at once. Their edges are exact all the same.
	Dropped uint64 `json:"dropped,omitempty"`
}
