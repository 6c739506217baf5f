package record

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sealer makes the records of one direction.
type Sealer struct {
	hidden
	h     *half
	ended bool // by an alert
}

var (
	errWiped = errors.New("record: the keys were wiped")
	errEnded = errors.New("record: an alert was sealed, nothing can follow it")
	errSpent = errors.New("record: too many records under one key, which Due told")
)

// Seal seals n bytes of plaintext that begin at b[HeaderLen], in place, and
// returns the size of the record, which begins at b[0]: n+Overhead. No bytes make
// a record too.
func (s *Sealer) Seal(b []byte, n int, typ byte) (int, error) {
	size := n + Overhead
	switch {
	case s.ended:
		return 0, errEnded
	case !s.h.awake():
		return 0, errWiped
	case s.h.seq >= maxSeq:
		return 0, errSpent
	case n < 0 || n > MaxPlaintext:
		return 0, fmt.Errorf("record: %d bytes in one record: it holds 0 to %d", n, MaxPlaintext)
	case len(b) < size:
		return 0, fmt.Errorf("record: %d bytes of room for a record of %d", len(b), size)
	}
	b[0], b[1], b[2] = TypeApplicationData, 3, 3
	binary.BigEndian.PutUint16(b[3:], uint16(size-HeaderLen))
	b[HeaderLen+n] = typ
	s.h.aead.Seal(b[HeaderLen:HeaderLen], s.h.use(), b[HeaderLen:HeaderLen+n+1], b[:HeaderLen])
	return size, nil
}

// Due tells that this key has sealed enough: Update soon.
func (s *Sealer) Due() bool { return s.h.seq >= s.h.suite.due }

// Update seals a KeyUpdate into b, which has room for UpdateSize, and goes on
// with the next keys. It is sent because it is Due, or as the answer to one that
// asks for it. After an alert there is nothing to seal any more, so it makes a
// record of no bytes, and no error: the peer may go on with new keys of its own.
//
// request asks the peer to do the same. Do not ask one that has sent its
// close_notify: crypto/tls (Go 1.26) then cannot write its answer, and for that
// reason misses our new keys too.
func (s *Sealer) Update(b []byte, request bool) (int, error) {
	if s.ended {
		return 0, nil
	}
	if !s.h.awake() {
		return 0, errWiped
	}
	if len(b) < UpdateSize {
		return 0, fmt.Errorf("record: %d bytes of room for a record of %d", len(b), UpdateSize)
	}
	next, err := s.h.next()
	if err != nil {
		return 0, fmt.Errorf("record: the next keys: %w", err)
	}
	msg := [5]byte{msgKeyUpdate, 0, 0, 1}
	if request {
		msg[4] = 1
	}
	copy(b[HeaderLen:], msg[:])
	n, err := s.Seal(b, len(msg), TypeHandshake)
	if err != nil {
		next.wipe()
		return 0, err
	}
	s.h.wipe()
	s.h = next
	return n, nil
}

// Alert seals an alert into b, which has room for AlertSize; nothing can be
// sealed after it. CloseNotify is the orderly end of this direction.
func (s *Sealer) Alert(b []byte, a Alert) (int, error) {
	if len(b) < AlertSize {
		return 0, fmt.Errorf("record: %d bytes of room for a record of %d", len(b), AlertSize)
	}
	const warning, fatal = 1, 2
	b[HeaderLen], b[HeaderLen+1] = fatal, byte(a)
	if a == CloseNotify || a == UserCanceled {
		b[HeaderLen] = warning
	}
	n, err := s.Seal(b, 2, TypeAlert)
	if err == nil {
		s.ended = true
	}
	return n, err
}

// Doze gives back most of the memory until the next record, which then takes a
// few microseconds more.
func (s *Sealer) Doze() { s.h.doze() }

// Wipe forgets the keys; the Sealer is of no use any more.
func (s *Sealer) Wipe() { s.h.wipe() }
