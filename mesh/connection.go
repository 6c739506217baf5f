package mesh

import (
	"net/netip"
	"time"
)

// Direction of a connection, seen from the proxy that reports it.
type Direction string

const (
	InboundDir  Direction = "inbound"
	OutboundDir Direction = "outbound"
)

// Security is what was really spoken, in the words of Istio's metric label
// connection_security_policy and some of our own.
type Security string

const (
	Plaintext Security = "none"
	MutualTLS Security = "mutual_tls"
	SimpleTLS Security = "tls"     // server-authenticated only (SIMPLE)
	PassedTLS Security = "opaque"  // the application's own TLS, passed through
	Probed    Security = "probe"   // a kubelet's declared question, answered by the proxy (Probe)
	Unknown   Security = "unknown" // ended before it was known
)

// Connection is the facts about one connection through one proxy: a row of the
// proxy's connection table. Log line, metrics and admin page are views of it.
type Connection struct {
	ID uint64 `json:"id"` // in this proxy
	// Trace names the connection at both of its ends: 16 hex digits, made of what
	// both proxies see of it (TraceOf). It is what "hasp why" takes.
	Trace       string         `json:"trace,omitempty"`
	Direction   Direction      `json:"direction"`
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"` // original destination
	Upstream    netip.AddrPort `json:"upstream,omitzero"`
	// Local is where the proxy's own connection to Upstream comes from: what the
	// proxy at the other end has as Source.
	Local    netip.AddrPort `json:"local,omitzero"`
	Service  string         `json:"service,omitempty"` // hostname
	Cluster  string         `json:"cluster,omitempty"`
	Protocol Protocol       `json:"protocol,omitempty"`

	LocalIdentity string `json:"localIdentity,omitempty"`
	PeerIdentity  string `json:"peerIdentity,omitempty"`
	PeerWorkload  string `json:"peerWorkload,omitempty"` // by address, when known

	Security Security `json:"security"`
	Why      string   `json:"why"`             // why plaintext, why refused, why closed
	TLS      string   `json:"tls,omitempty"`   // "1.3"
	Group    string   `json:"group,omitempty"` // "X25519MLKEM768"
	Cipher   string   `json:"cipher,omitempty"`
	ALPN     string   `json:"alpn,omitempty"`
	Resumed  bool     `json:"resumed,omitempty"`
	// Reused is how many connections the mutual TLS connection had carried before
	// this one, and HandshakeAt when its handshake was; both zero for the first.
	Reused      uint32    `json:"reused,omitempty"`
	HandshakeAt time.Time `json:"handshakeAt,omitzero"`

	Allowed    bool   `json:"allowed"`
	Rule       Origin `json:"rule"`       // the object that decided
	Mode       string `json:"mode"`       // the mode it decided
	Generation uint64 `json:"generation"` // of the configuration it was decided under

	Sent     uint64    `json:"sent"`     // bytes to the peer that opened it
	Received uint64    `json:"received"` // bytes from the peer that opened it
	Requests uint64    `json:"requests,omitempty"`
	Errors   uint64    `json:"errors,omitempty"` // requests answered with 5xx, or not at all
	Start    time.Time `json:"start"`
	LastSeen time.Time `json:"lastSeen"`
	End      time.Time `json:"end,omitzero"` // zero while it lives

	// Failure is how it failed to come about, nil when it did.
	Failure *Failure `json:"failure,omitempty"`
}
