package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

// sealInner seals what no Sealer would: any inner plaintext, type and padding
// included, under any header.
func sealInner(s *Sealer, header byte, inner []byte) []byte {
	b := make([]byte, HeaderLen, HeaderLen+len(inner)+tagLen)
	b[0], b[1], b[2] = header, 3, 3
	binary.BigEndian.PutUint16(b[3:], uint16(len(inner)+tagLen))
	return s.h.aead.Seal(b, s.h.use(), inner, b)
}

func padded(p []byte, typ byte, zeros int) []byte {
	return append(append(bytes.Clone(p), typ), make([]byte, zeros)...)
}

// refused checks that a record ends the stream with an alert, and gives nothing.
func refused(t *testing.T, name string, o *Opener, rec []byte, want Alert) {
	t.Helper()
	p, _, err := o.Open(rec)
	if err != want || p != nil {
		t.Errorf("%s: got %d bytes, %v, want %v", name, len(p), err, want)
	}
	if p, _, again := o.Open(bytes.Clone(rec)); p != nil || again != want {
		t.Errorf("%s: opened afterwards: %d bytes, %v, want %v", name, len(p), again, want)
	}
	if _, again := o.Handshake([]byte{msgKeyUpdate, 0, 0, 1, 0}); again != want {
		t.Errorf("%s: a message afterwards: %v, want %v", name, again, want)
	}
}

// Whatever happens to a record on its way, nothing of it is delivered.
func TestTampered(t *testing.T) {
	for _, suite := range suites {
		opener := func() *Opener {
			o, _ := linePair(t, suite.id, suite.secret)
			return o
		}
		_, s := linePair(t, suite.id, suite.secret)
		first := seal(t, s, []byte("first record"), TypeApplicationData)
		second := seal(t, s, []byte("the second record"), TypeApplicationData)

		for bit := range 8 * len(first) {
			rec := bytes.Clone(first)
			rec[bit/8] ^= 1 << (bit % 8)
			want := BadRecordMAC
			if n := int(binary.BigEndian.Uint16(rec[3:])); n+HeaderLen != len(rec) { // what a stream would make of it
				switch {
				case n > maxSealed:
					want = RecordOverflow
				case n > tagLen && n < len(first):
					rec = rec[:HeaderLen+n]
				case n > tagLen:
					rec = append(rec, make([]byte, HeaderLen+n-len(rec))...)
				}
			}
			if rec[0] != TypeApplicationData {
				want = UnexpectedMessage
			}
			refused(t, suite.name+": a bit turned", opener(), rec, want)
		}
		for n := range len(first) {
			want := DecodeError // no whole record
			if n >= HeaderLen {
				rec := bytes.Clone(first[:n])
				binary.BigEndian.PutUint16(rec[3:], uint16(n-HeaderLen))
				refused(t, suite.name+": truncated, with a header that fits", opener(), rec, BadRecordMAC)
			}
			refused(t, suite.name+": truncated", opener(), bytes.Clone(first[:n]), want)
		}
		refused(t, suite.name+": the second first", opener(), bytes.Clone(second), BadRecordMAC)
		refused(t, suite.name+": two at once", opener(), append(bytes.Clone(first), second...), DecodeError)

		o := opener()
		if _, _, err := o.Open(bytes.Clone(first)); err != nil {
			t.Fatal(err)
		}
		refused(t, suite.name+": replayed", o, bytes.Clone(first), BadRecordMAC)

		back, _ := keysOf(t, suite.id, true, string(bytes.Repeat([]byte("c1"), suite.secret)), string(bytes.Repeat([]byte("5e"), suite.secret)))
		refused(t, suite.name+": sent back to where it is from", back, bytes.Clone(first), BadRecordMAC)
	}
}

func TestRecordsThatAreNone(t *testing.T) {
	data := []byte("data")
	for _, tc := range []struct {
		name   string
		header byte
		inner  []byte
		want   Alert // CloseNotify: it is one
	}{
		{"data", 23, padded(data, 23, 0), CloseNotify},
		{"padding", 23, padded(data, 23, 1), CloseNotify},
		{"all the padding there may be", 23, padded(data, 23, MaxPlaintext-len(data)), CloseNotify},
		{"too much padding", 23, padded(data, 23, MaxPlaintext-len(data)+1), RecordOverflow},
		{"no data", 23, padded(nil, 23, 0), CloseNotify},
		{"no data, padded", 23, padded(nil, 23, 100), CloseNotify},
		{"the most data", 23, padded(make([]byte, MaxPlaintext), 23, 0), CloseNotify},
		{"too much data", 23, padded(make([]byte, MaxPlaintext+1), 23, 0), RecordOverflow},
		{"as much as a header allows", 23, padded(make([]byte, maxSealed-tagLen-1), 23, 0), RecordOverflow},
		{"more than a header allows", 23, padded(make([]byte, maxSealed-tagLen), 23, 0), RecordOverflow},
		{"nothing but padding", 23, make([]byte, 20), UnexpectedMessage},
		{"one zero", 23, make([]byte, 1), UnexpectedMessage},
		{"nothing", 23, nil, BadRecordMAC},
		{"an alert", 23, padded([]byte{2, 20}, 21, 0), CloseNotify},
		{"an empty alert", 23, padded(nil, 21, 0), UnexpectedMessage},
		{"an empty message", 23, padded(nil, 22, 3), UnexpectedMessage},
		{"change_cipher_spec inside", 23, padded([]byte{1}, 20, 0), UnexpectedMessage},
		{"heartbeat inside", 23, padded(data, 24, 0), UnexpectedMessage},
		{"an unknown type inside", 23, padded(data, 255, 0), UnexpectedMessage},
		{"change_cipher_spec outside", 20, padded(data, 23, 0), UnexpectedMessage},
		{"an alert outside", 21, padded(data, 23, 0), UnexpectedMessage},
		{"a message outside", 22, padded(data, 23, 0), UnexpectedMessage},
		{"an unknown type outside", 0, padded(data, 23, 0), UnexpectedMessage},
	} {
		for _, suite := range suites {
			o, s := linePair(t, suite.id, suite.secret)
			rec := sealInner(s, tc.header, tc.inner)
			if tc.want != CloseNotify {
				refused(t, tc.name, o, rec, tc.want)
				continue
			}
			p, typ, err := o.Open(rec)
			want := bytes.TrimRight(tc.inner, "\x00")
			if err != nil || typ != want[len(want)-1] || !bytes.Equal(p, want[:len(want)-1]) {
				t.Errorf("%s: %d bytes of type %d, %v", tc.name, len(p), typ, err)
			}
		}
	}
	// The record that ends middleboxes' fears, and what a handshake would send.
	for _, rec := range [][]byte{{20, 3, 3, 0, 1, 1}, {21, 3, 3, 0, 2, 1, 0}, []byte("GET / HTTP/1.1\r\n")} {
		o, _ := rfcKeys(t, true)
		refused(t, "in the clear", o, rec, UnexpectedMessage)
	}
}

func TestTooManyWithoutData(t *testing.T) {
	update := []byte{msgKeyUpdate, 0, 0, 1, 0}
	for _, tc := range []struct {
		name string
		send func(*Sealer) []byte
	}{
		{"empty records", func(s *Sealer) []byte { return seal(t, s, nil, TypeApplicationData) }},
		{"key updates", func(s *Sealer) []byte {
			b := make([]byte, UpdateSize)
			if _, err := s.Update(b, true); err != nil {
				t.Fatal(err)
			}
			return b
		}},
		{"user_canceled", func(s *Sealer) []byte { return seal(t, s, []byte{1, byte(UserCanceled)}, TypeAlert) }},
		{"a ticket in pieces", func(s *Sealer) []byte { return seal(t, s, []byte{msgNewSessionTicket}, TypeHandshake) }},
	} {
		o, _ := rfcKeys(t, true)
		_, s := rfcKeys(t, false) // what the server seals
		for round := range 3 {
			for i := range maxIdle {
				p, typ, err := o.Open(tc.send(s))
				if err == nil && typ == TypeHandshake && bytes.Equal(p[:4], update[:min(4, len(p))]) {
					_, err = o.Handshake(p)
				}
				if err != nil {
					t.Fatalf("%s: round %d, record %d: %v", tc.name, round, i+1, err)
				}
			}
			if round < 2 {
				if _, _, err := o.Open(seal(t, s, []byte("data"), TypeApplicationData)); err != nil {
					t.Fatalf("%s: %v", tc.name, err)
				}
			}
		}
		refused(t, tc.name, o, tc.send(s), UnexpectedMessage)
	}
}

// Records of another type do not come between the parts of a message.
func TestInterleaved(t *testing.T) {
	for _, typ := range []byte{TypeApplicationData, TypeAlert} {
		o, _ := rfcKeys(t, true)
		_, s := rfcKeys(t, false)
		p, _, err := o.Open(seal(t, s, []byte{msgKeyUpdate, 0}, TypeHandshake))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Handshake(p); err != nil {
			t.Fatal(err)
		}
		refused(t, "in the middle of a message", o, seal(t, s, []byte{1, 0}, typ), UnexpectedMessage)
	}
}

func TestNumbersEnd(t *testing.T) {
	o, s := rfcKeys(t, true)
	_, back := rfcKeys(t, false)
	if s.Due() {
		t.Error("the first record's key is due")
	}
	s.h.seq = gcmDue
	if !s.Due() {
		t.Error("a key is not due after 2^23 records")
	}
	b := make([]byte, 100)
	if _, err := s.Update(b, false); err != nil || s.Due() {
		t.Errorf("due after an update: %v, %v", s.Due(), err)
	}
	s.h.seq = maxSeq
	for name, f := range map[string]func() (int, error){
		"data":   func() (int, error) { return s.Seal(b, 1, TypeApplicationData) },
		"alert":  func() (int, error) { return s.Alert(b, CloseNotify) },
		"update": func() (int, error) { return s.Update(b, false) },
	} {
		if n, err := f(); n != 0 || !errors.Is(err, errSpent) {
			t.Errorf("%s: %d bytes with a spent key, %v", name, n, err)
		}
	}
	o.h.seq, back.h.seq = maxSeq, maxSeq
	refused(t, "a spent key", o, sealInner(back, 23, []byte{1, 23}), InternalError)
}

// The sequence number is in the nonce, all of it.
func TestNonce(t *testing.T) {
	h := &half{material: &material{iv: [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}, seq: 0x0102030405060708}
	want := []byte{1, 2, 3, 4, 5 ^ 1, 6 ^ 2, 7 ^ 3, 8 ^ 4, 9 ^ 5, 10 ^ 6, 11 ^ 7, 12 ^ 8}
	if got := h.use(); !slices.Equal(got, want) || h.seq != 0x0102030405060709 {
		t.Errorf("got %v, then %x", got, h.seq)
	}
}

func TestAfterTheEnd(t *testing.T) {
	b := make([]byte, 100)
	o, s := rfcKeys(t, true)
	if _, err := s.Alert(b[:AlertSize-1], CloseNotify); err == nil {
		t.Error("an alert without room")
	}
	if _, err := s.Alert(b, CloseNotify); err != nil {
		t.Error(err)
	}
	if n, err := s.Seal(b, 1, TypeApplicationData); n != 0 || !errors.Is(err, errEnded) {
		t.Errorf("data after close_notify: %d, %v", n, err)
	}
	if n, err := s.Alert(b, InternalError); n != 0 || !errors.Is(err, errEnded) {
		t.Errorf("an alert after close_notify: %d, %v", n, err)
	}
	if n, err := s.Update(b, false); n != 0 || err != nil {
		t.Errorf("an update after close_notify: %d, %v", n, err)
	}

	_, s = rfcKeys(t, true)
	if _, err := s.Update(b[:UpdateSize-1], false); err == nil {
		t.Error("an update without room")
	}
	s.Wipe()
	if n, err := s.Seal(b, 1, TypeApplicationData); n != 0 || !errors.Is(err, errWiped) {
		t.Errorf("sealed without keys: %d, %v", n, err)
	}
	if n, err := s.Update(b, false); n != 0 || !errors.Is(err, errWiped) {
		t.Errorf("updated without keys: %d, %v", n, err)
	}
	if s.Due() {
		t.Error("no keys are due")
	}
	o.Wipe()
	refused(t, "no keys", o, unhex(t, rfcServerData), InternalError)
}

func TestAlertNames(t *testing.T) {
	for a, want := range map[Alert]string{
		CloseNotify: "tls: close_notify", BadRecordMAC: "tls: bad_record_mac", RecordOverflow: "tls: record_overflow",
		UnexpectedMessage: "tls: unexpected_message", 120: "tls: no_application_protocol", 200: "tls: alert 200",
	} {
		if a.Error() != want {
			t.Errorf("got %s, want %s", a.Error(), want)
		}
	}
	for _, b := range [][]byte{nil, {2}, {2, 20, 1}} {
		if _, err := ParseAlert(b); err != DecodeError {
			t.Errorf("%x: %v", b, err)
		}
	}
	for _, level := range []byte{0, 1, 2, 255} { // says nothing
		if a, err := ParseAlert([]byte{level, 20}); a != BadRecordMAC || err != nil {
			t.Errorf("level %d: %v, %v", level, a, err)
		}
	}
	for a, level := range map[Alert]byte{CloseNotify: 1, UserCanceled: 1, InternalError: 2, BadRecordMAC: 2} {
		o, s := linePair(t, suites[0].id, suites[0].secret)
		b := make([]byte, AlertSize)
		if n, err := s.Alert(b, a); n != AlertSize || err != nil {
			t.Fatal(n, err)
		}
		if p, typ, err := o.Open(b); err != nil || typ != TypeAlert || !bytes.Equal(p, []byte{level, byte(a)}) {
			t.Errorf("%v: %x of type %d, %v", a, p, typ, err)
		}
	}
}
