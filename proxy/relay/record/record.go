// Package record is the record layer of TLS 1.3 (RFC 8446, section 5) for
// connections whose handshake crypto/tls has done: it seals and opens records in
// place, in the caller's memory, and does no I/O. It follows RFC 8446 for what
// comes after a handshake, alerts, key updates and tickets, and nothing else.
//
// One [Secrets] is the KeyLogWriter of the tls.Config of one connection. After
// the handshake [Secrets.Keys] makes an [Opener] for the records that come and a
// [Sealer] for those that go; each is for one goroutine at a time. Both begin at
// the first record: crypto/tls must not have written or read anything with these
// keys, so a server sends no session tickets (tls.Config.SessionTicketsDisabled)
// and what a peer sends after its last handshake record is left unread.
//
// An error of an Opener is an [Alert], to be sealed with [Sealer.Alert] and sent
// before the connection is closed. Nothing that is read after it can be trusted,
// and the Opener gives nothing any more.
//
// # The secrets
//
// The key log exists to let debuggers read traffic: whoever has what Secrets is
// given can read, and forge, this connection, and no other. So these bytes stay
// in the memory of the process, where those of crypto/tls are too. No type of
// this package prints them (not as %v, %#v, JSON or slog), no error contains
// them, they are overwritten when they are replaced or no longer needed, and the
// heap profiles of the admin page count bytes but hold none. What Go cannot
// promise: copies that crypto/tls, or an AEAD for as long as it is in use, keeps
// on the heap. hasp-proxy therefore leaves no core files.
// docs/decisions/0007-own-record-layer.md weighs it.
package record

import "encoding/binary"

// Sizes in bytes.
const (
	// HeaderLen is that of what precedes each record in the clear.
	HeaderLen = 5
	// MaxPlaintext is the most a record carries.
	MaxPlaintext = 1 << 14
	// Overhead is what Seal adds: the header, the type and the AEAD's tag.
	Overhead = HeaderLen + 1 + tagLen
	// MaxRecord is the largest record a peer may send, header and padding included.
	MaxRecord = HeaderLen + maxSealed
	// AlertSize and UpdateSize are the records that Sealer.Alert and Sealer.Update
	// make.
	AlertSize  = 2 + Overhead
	UpdateSize = 5 + Overhead

	maxSealed = MaxPlaintext + 256
	tagLen    = 16
)

// Types of records.
const (
	TypeAlert           byte = 21
	TypeHandshake       byte = 22
	TypeApplicationData byte = 23
)

// Size is that of a whole record, told by its header, b[:HeaderLen]. The error is
// an Alert: no such record may be here.
func Size(b []byte) (int, error) {
	n := int(binary.BigEndian.Uint16(b[3:HeaderLen]))
	switch {
	case b[0] != TypeApplicationData:
		return 0, UnexpectedMessage // all that is sealed is this from outside
	case n > maxSealed:
		return 0, RecordOverflow
	case n <= tagLen:
		return 0, BadRecordMAC
	}
	return HeaderLen + n, nil
}
