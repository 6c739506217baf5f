package record

import (
	"bytes"
	"testing"
)

// What dozes goes on where it was, also with new keys; what was wiped does not.
func TestDoze(t *testing.T) {
	for _, suite := range suites {
		o, s := linePair(t, suite.id, suite.secret)
		for i := range 3 {
			p := bytes.Repeat([]byte{byte(i)}, 10+i)
			got, _, err := o.Open(seal(t, s, p, TypeApplicationData))
			if err != nil || !bytes.Equal(got, p) {
				t.Fatalf("%s: got %x, %v", suite.name, got, err)
			}
			s.Doze()
			o.Doze()
			if s.h.aead != nil || o.h.aead != nil {
				t.Errorf("%s: nothing is given back", suite.name)
			}
			b := make([]byte, UpdateSize)
			if _, err := s.Update(b, false); err != nil {
				t.Fatal(err)
			}
			o.Doze()
			msg, _, err := o.Open(b)
			if err != nil {
				t.Fatal(err)
			}
			s.Doze()
			o.Doze()
			if _, err := o.Handshake(msg); err != nil {
				t.Fatal(err)
			}
		}
		rec := seal(t, s, []byte("late"), TypeApplicationData)
		s.Wipe()
		o.Wipe()
		s.Doze()
		o.Doze()
		if _, err := s.Seal(make([]byte, 100), 1, TypeApplicationData); err != errWiped {
			t.Errorf("%s: sealed after Wipe: %v", suite.name, err)
		}
		if _, _, err := o.Open(rec); err != InternalError {
			t.Errorf("%s: opened after Wipe: %v", suite.name, err)
		}
	}
}
