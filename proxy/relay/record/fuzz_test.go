package record

import (
	"bytes"
	"crypto/tls"
	"testing"
)

// FuzzOpen is what strangers send: whatever it is, it is refused, since it was
// not sealed; or it was, and any inner plaintext is opened or refused.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{23, 3, 3, 0, 19, 0}, byte(23), 0)
	f.Add(unhex(f, rfcServerData), byte(23), 3)
	f.Add([]byte("data\x17\x00\x00"), byte(22), 1)
	f.Add([]byte{}, byte(0), MaxPlaintext+2)
	f.Fuzz(func(t *testing.T, b []byte, typ byte, zeros int) {
		for _, suite := range suites {
			o, s := linePair(t, suite.id, suite.secret)
			if p, _, err := o.Open(bytes.Clone(b)); err == nil || p != nil {
				t.Fatalf("%d bytes of nobody's", len(p))
			} else if _, ok := err.(Alert); !ok {
				t.Fatalf("%v is no alert", err)
			}

			o, _ = linePair(t, suite.id, suite.secret)
			zeros := min(max(zeros, 0), 1<<15)
			inner := padded(b[:min(len(b), 1<<15)], typ, zeros)
			p, got, err := o.Open(sealInner(s, TypeApplicationData, inner))
			known := typ >= TypeAlert && typ <= TypeApplicationData
			switch {
			case len(inner) > MaxPlaintext+1:
				if err != RecordOverflow {
					t.Fatalf("%d bytes inside: %v", len(inner), err)
				}
			case known && (len(b) > 0 || typ == TypeApplicationData):
				if err != nil || got != typ || !bytes.Equal(p, b) {
					t.Fatalf("got %x of type %d, %v", p, got, err)
				}
			case known || typ != 0: // of type 0 is what looks like padding
				if err != UnexpectedMessage || p != nil {
					t.Fatalf("type %d: %x, %v", typ, p, err)
				}
			}
		}
	})
}

// FuzzMessages: where records begin and end changes nothing, but for a key
// update, which ends one.
func FuzzMessages(f *testing.F) {
	f.Add(join(msg(msgNewSessionTicket, 1, 2, 3), msg(msgKeyUpdate, 1)), 5, true)
	f.Add(msg(msgKeyUpdate, 0), 1, false)
	f.Add(join(msg(msgKeyUpdate, 3), msg(msgKeyUpdate, 0)), 5, true)
	f.Add([]byte{msgNewSessionTicket, 0xff, 0xff, 0xff}, 2, true)
	f.Fuzz(func(t *testing.T, b []byte, cut int, client bool) {
		whole := messages{client: client}
		want, alert := whole.add(b)
		if alert == CloseNotify && !client && len(b) > 3 && b[0] == msgNewSessionTicket {
			t.Fatal("a ticket for a server")
		}
		parts := messages{client: client}
		if cut %= len(b) + 1; cut < 0 {
			cut = -cut
		}
		first, early := parts.add(b[:cut])
		if early != CloseNotify {
			// A wrong update is wrong for what follows it, if something does.
			if early != alert && (early != IllegalParameter || alert != UnexpectedMessage) {
				t.Fatalf("in parts %v, whole %v", early, alert)
			}
			return
		}
		if first != noUpdate {
			if cut < len(b) && alert != UnexpectedMessage {
				t.Fatalf("an update before the end of a record: %v", alert)
			}
			return
		}
		second, late := parts.add(b[cut:])
		if second != want || late != alert || alert == CloseNotify && parts != whole {
			t.Fatalf("in parts %v, %v, whole %v, %v", second, late, want, alert)
		}
	})
}

// FuzzKeyLog: nothing that is written is an error, nor shows.
func FuzzKeyLog(f *testing.F) {
	f.Add([]byte(goodClient + goodServer))
	f.Add([]byte(goodServer + "CLIENT_TRAFFIC_SECRET_0 x y\n"))
	f.Add([]byte("CLIENT_TRAFFIC_SECRET_0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, suite := range suites {
			var s Secrets
			if n, err := s.Write(b); n != len(b) || err != nil {
				t.Fatalf("wrote %d of %d, %v", n, len(b), err)
			}
			o, w, err := s.Keys(suite.id, true)
			if (err == nil) != (o != nil) || (err == nil) != (w != nil) || s.p != nil {
				t.Fatalf("%v, with keys: %v, %v", err, o != nil, w != nil)
			}
			if err == nil && !bytes.Contains(b, []byte(clientLine)) {
				t.Fatal("keys of nothing")
			}
			if err != nil && len(err.Error()) > 120 {
				t.Fatal("an error that is longer than any of ours")
			}
		}
	})
}

// FuzzRoundTrip: what one side seals, in whatever pieces and with whatever keys,
// the other opens.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("some data"), []byte{3, 0, 200, 201, 255, 4}, uint8(0))
	f.Add(make([]byte, 40000), []byte{255, 255}, uint8(2))
	f.Fuzz(func(t *testing.T, data, steps []byte, which uint8) {
		suite := suites[int(which)%len(suites)]
		o, s := linePair(t, suite.id, suite.secret)
		b := make([]byte, MaxRecord)
		var got []byte
		rest, idle := data, 0
		for _, step := range steps {
			if idle == maxIdle {
				break
			}
			var n int
			var err error
			switch {
			case step >= 200 && step < 202:
				n, err = s.Update(b, step == 201)
			default:
				size := min(int(step)*65, len(rest), MaxPlaintext)
				n, err = s.Seal(b, copy(b[HeaderLen:], rest[:size]), TypeApplicationData)
				rest = rest[size:]
				if size > 0 {
					idle = -1
				}
			}
			idle++
			if err != nil {
				t.Fatal(err)
			}
			if size, err := Size(b); err != nil || size != n {
				t.Fatalf("a record of %d bytes is of %d, %v", n, size, err)
			}
			p, typ, err := o.Open(b[:n])
			if err != nil {
				t.Fatal(err)
			}
			if typ == TypeApplicationData {
				got = append(got, p...)
				continue
			}
			if answer, err := o.Handshake(p); err != nil || answer != (step == 201) {
				t.Fatalf("update %d: %v, %v", step, answer, err)
			}
		}
		if !bytes.Equal(got, data[:len(data)-len(rest)]) {
			t.Fatal("others came than were sent")
		}
	})
}

// Both ends of a connection have each other's keys.
func TestKeysMeet(t *testing.T) {
	co, cs := rfcKeys(t, true)
	so, ss := rfcKeys(t, false)
	for _, tc := range []struct {
		o *Opener
		s *Sealer
	}{{so, cs}, {co, ss}} {
		if p, _, err := tc.o.Open(seal(t, tc.s, []byte("x"), TypeApplicationData)); err != nil || string(p) != "x" {
			t.Errorf("got %q, %v", p, err)
		}
	}
	if _, _, err := (&Secrets{}).Keys(tls.TLS_AES_128_GCM_SHA256, true); err == nil {
		t.Error("keys of no secrets")
	}
}
