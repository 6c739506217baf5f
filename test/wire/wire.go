// Package wire reads the packets that a capture gives it and says of each TCP
// connection what an eavesdropper would know: how many bytes went each way,
// whether they were TLS and of which version, and which markers could be read
// in plain. It is a witness for tests, independent of the mesh's own code.
//
// [Tap.Frame] takes Ethernet frames, [Tap.Connections] gives the connections.
package wire

import (
	"net/netip"
	"time"
)

// Connection is one TCP connection as it was seen on one network. One that is
// translated on its way (a Service's virtual address) is seen as two.
type Connection struct {
	Start  time.Time      `json:"start"`
	Client netip.AddrPort `json:"client"`
	Server netip.AddrPort `json:"server"`

	FromClient Direction `json:"fromClient"`
	FromServer Direction `json:"fromServer"`

	// TLS is the version the server chose ("1.3"), or empty when the
	// connection is not TLS, or not yet.
	TLS string `json:"tls,omitempty"`
	// ALPN is what the client offered, in plain, in its ClientHello.
	ALPN []string `json:"alpn,omitempty"`
}

// Direction is what one end sent.
type Direction struct {
	// Bytes of payload, each counted once however often it was sent.
	Bytes int64 `json:"bytes"`
	// Markers that were readable.
	Markers []string `json:"markers,omitempty"`
	// Reset: this end, or somebody in its name, sent RST.
	Reset bool `json:"reset,omitempty"`
	// Truncated: more was sent than is kept, or something in between was not
	// seen; markers may be missing.
	Truncated bool `json:"truncated,omitempty"`
}

// Report is a whole capture.
type Report struct {
	Connections []Connection `json:"connections"`
	Packets     int64        `json:"packets"`
	// Dropped are packets that the kernel had no room for: what a report says
	// is absent is only known to be when this is 0.
	Dropped int64 `json:"dropped"`
	// Untracked are packets of connections beyond the limit, or whose
	// beginning was not seen.
	Untracked int64 `json:"untracked"`
}
