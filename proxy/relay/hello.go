package relay

// helloSize is how much of a TLS connection has to be seen to know the random
// of its ClientHello: the headers of record and message, the version, and the
// random itself (RFC 8446, sections 5.1, 4 and 4.1.2).
const (
	helloSize  = 5 + 4 + 2 + randomSize
	randomSize = 32
)

// ClientRandom is the random of the ClientHello that a stream begins with; nil
// when it begins with something else, or b is too little of it. Who sends a
// stream and who receives it see the same.
func ClientRandom(b []byte) []byte {
	if len(b) < helloSize || b[0] != 22 || b[5] != 1 { // handshake, client_hello
		return nil
	}
	if record := int(b[3])<<8 | int(b[4]); record < helloSize-5 {
		return nil // the message goes on in another record
	}
	return b[helloSize-randomSize : helloSize]
}

// Hello keeps the beginning of a stream, which may come in pieces of any size,
// to look for a ClientHello. The zero value is ready.
type Hello struct {
	b [helloSize]byte
	n int
}

// Add takes the next bytes of the stream.
func (h *Hello) Add(p []byte) { h.n += copy(h.b[h.n:], p) }

// Done tells whether more bytes would change nothing.
func (h *Hello) Done() bool { return h.n == helloSize || h.n > 0 && h.b[0] != 22 }

// Random is the ClientRandom of what was added.
func (h *Hello) Random() []byte { return ClientRandom(h.b[:h.n]) }
