package record

const (
	msgNewSessionTicket = 4
	msgKeyUpdate        = 24

	maxMessage = 1 << 16 // as in crypto/tls
)

// update is what a record's handshake messages want of the keys.
type update uint8

const (
	noUpdate update = iota
	updated
	updateRequested
)

// messages follows the handshake messages of one direction across records. No
// message that may come now has to be kept, so it holds none.
type messages struct {
	client bool // we are the client, the peer may send tickets
	head   [4]byte
	n      uint8 // bytes of head that are there
	left   int   // bytes of the body that are to come
}

// partial tells that a message has begun and not ended.
func (m *messages) partial() bool { return m.n > 0 }

// add takes what one record holds.
func (m *messages) add(p []byte) (update, Alert) {
	for len(p) > 0 {
		if int(m.n) < len(m.head) {
			n := copy(m.head[m.n:], p)
			m.n += uint8(n)
			if p = p[n:]; int(m.n) < len(m.head) {
				break
			}
			if a := m.begin(); a != CloseNotify {
				return noUpdate, a
			}
		}
		body := p[:min(len(p), m.left)]
		p = p[len(body):]
		if m.left -= len(body); m.left > 0 {
			break
		}
		m.n = 0
		if m.head[0] == msgKeyUpdate {
			if len(p) > 0 {
				return noUpdate, UnexpectedMessage // under keys that are no longer used
			}
			return keyUpdate(body[0])
		}
	}
	return noUpdate, CloseNotify
}

// begin looks at a whole head.
func (m *messages) begin() Alert {
	m.left = int(m.head[1])<<16 | int(m.head[2])<<8 | int(m.head[3])
	switch {
	case m.head[0] == msgKeyUpdate && m.left != 1,
		m.head[0] == msgNewSessionTicket && m.client && m.left > maxMessage:
		return DecodeError
	case m.head[0] == msgKeyUpdate, m.head[0] == msgNewSessionTicket && m.client:
		return CloseNotify
	}
	return UnexpectedMessage
}

func keyUpdate(request byte) (update, Alert) {
	switch request {
	case 0:
		return updated, CloseNotify
	case 1:
		return updateRequested, CloseNotify
	}
	return noUpdate, IllegalParameter
}
