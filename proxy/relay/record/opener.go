package record

// Opener takes apart the records of one direction.
type Opener struct {
	hidden
	h        *half
	failed   Alert // what ended it; CloseNotify is none
	idle     uint8 // records without data, in a row
	messages messages
}

// maxIdle records without data may come in a row, empty ones, key updates or
// others: each costs us work and a peer nothing.
const maxIdle = 32

// Open opens one whole record in place, and returns its payload, a part of rec,
// and its type: TypeApplicationData, whose payload may be empty, TypeHandshake
// for Handshake, or TypeAlert for ParseAlert. The error is an Alert and final.
func (o *Opener) Open(rec []byte) (payload []byte, typ byte, err error) {
	if o.failed != CloseNotify {
		return nil, 0, o.failed
	}
	payload, typ, alert := o.open(rec)
	if alert != CloseNotify {
		return nil, 0, o.fail(alert)
	}
	return payload, typ, nil
}

func (o *Opener) fail(a Alert) error {
	o.failed = a
	o.Wipe()
	return a
}

func (o *Opener) open(rec []byte) ([]byte, byte, Alert) {
	if len(rec) < HeaderLen {
		return nil, 0, DecodeError
	}
	size, err := Size(rec)
	if err != nil {
		return nil, 0, err.(Alert)
	}
	if len(rec) != size {
		return nil, 0, DecodeError
	}
	if !o.h.awake() || o.h.seq >= maxSeq {
		return nil, 0, InternalError
	}
	p, err := o.h.aead.Open(rec[HeaderLen:HeaderLen], o.h.use(), rec[HeaderLen:], rec[:HeaderLen])
	if err != nil {
		return nil, 0, BadRecordMAC
	}
	if len(p) > MaxPlaintext+1 {
		return nil, 0, RecordOverflow
	}
	n := len(p) - 1
	for n >= 0 && p[n] == 0 {
		n-- // padding
	}
	if n < 0 {
		return nil, 0, UnexpectedMessage
	}
	return o.inner(p[:n], p[n])
}

// inner checks what was in a record.
func (o *Opener) inner(p []byte, typ byte) ([]byte, byte, Alert) {
	switch typ {
	case TypeApplicationData, TypeAlert:
		if o.messages.partial() {
			return nil, 0, UnexpectedMessage // RFC 8446, section 5.1
		}
	case TypeHandshake:
	default:
		return nil, 0, UnexpectedMessage
	}
	if typ != TypeApplicationData && len(p) == 0 {
		return nil, 0, UnexpectedMessage
	}
	if typ == TypeApplicationData && len(p) > 0 {
		o.idle = 0
	} else if o.idle++; o.idle > maxIdle {
		return nil, 0, UnexpectedMessage
	}
	return p, typ, CloseNotify
}

// Handshake takes the payload of a record of TypeHandshake. Session tickets are
// dropped; after a key update it goes on with the peer's next keys, and answer
// tells that the peer wants one too: Sealer.Update(b, false), once, before the
// next application data. The error is an Alert and final.
func (o *Opener) Handshake(payload []byte) (answer bool, err error) {
	if o.failed != CloseNotify {
		return false, o.failed
	}
	update, alert := o.messages.add(payload)
	if alert != CloseNotify {
		return false, o.fail(alert)
	}
	if update == noUpdate {
		return false, nil
	}
	if !o.h.awake() {
		return false, o.fail(InternalError)
	}
	next, err := o.h.next()
	if err != nil {
		return false, o.fail(InternalError)
	}
	o.h.wipe()
	o.h = next
	return update == updateRequested, nil
}

// Doze gives back most of the memory until the next record, which then takes a
// few microseconds more.
func (o *Opener) Doze() { o.h.doze() }

// Wipe forgets the keys; the Opener is of no use any more.
func (o *Opener) Wipe() { o.h.wipe() }
