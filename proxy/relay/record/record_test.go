package record

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
)

var suites = []struct {
	name   string
	id     uint16
	secret int
}{
	{"AES-128-GCM", tls.TLS_AES_128_GCM_SHA256, 32},
	{"AES-256-GCM", tls.TLS_AES_256_GCM_SHA384, 48},
	{"ChaCha20-Poly1305", tls.TLS_CHACHA20_POLY1305_SHA256, 32},
}

// linePair seals what its opener opens.
func linePair(t testing.TB, suite uint16, secret int) (*Opener, *Sealer) {
	t.Helper()
	c, s := strings.Repeat("c1", secret), strings.Repeat("5e", secret)
	_, w := keysOf(t, suite, true, c, s)
	o, _ := keysOf(t, suite, false, c, s)
	return o, w
}

func seal(t testing.TB, s *Sealer, p []byte, typ byte) []byte {
	t.Helper()
	b := make([]byte, len(p)+Overhead)
	n, err := s.Seal(b, copy(b[HeaderLen:], p), typ)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func TestSizes(t *testing.T) {
	for _, suite := range suites {
		o, s := linePair(t, suite.id, suite.secret)
		for _, n := range []int{0, 1, 2, 1000, MaxPlaintext - 1, MaxPlaintext} {
			p := bytes.Repeat([]byte{7}, n)
			rec := seal(t, s, p, TypeApplicationData)
			if size, err := Size(rec); err != nil || size != len(rec) || size != n+Overhead {
				t.Errorf("%s: %d bytes made a record of %d, Size told %d, %v", suite.name, n, len(rec), size, err)
			}
			got, typ, err := o.Open(rec)
			if err != nil || typ != TypeApplicationData || !bytes.Equal(got, p) {
				t.Errorf("%s: %d bytes came as %d of type %d, %v", suite.name, n, len(got), typ, err)
			}
		}
		for _, n := range []int{-1, MaxPlaintext + 1} {
			if _, err := s.Seal(make([]byte, 2*MaxRecord), n, TypeApplicationData); err == nil {
				t.Errorf("%s: %d bytes were sealed", suite.name, n)
			}
		}
		if _, err := s.Seal(make([]byte, 100), 100-Overhead+1, TypeApplicationData); err == nil {
			t.Errorf("%s: sealed without room", suite.name)
		}
	}
}

func TestUpdates(t *testing.T) {
	for _, suite := range suites {
		o, s := linePair(t, suite.id, suite.secret)
		for i := range 5 {
			want := []byte(fmt.Sprint("hello ", i))
			if p, _, err := o.Open(seal(t, s, want, TypeApplicationData)); err != nil || !bytes.Equal(p, want) {
				t.Fatalf("%s, keys %d: got %q, %v", suite.name, i, p, err)
			}
			b := make([]byte, UpdateSize)
			n, err := s.Update(b, i%2 == 1)
			if err != nil || n != UpdateSize {
				t.Fatalf("%s: update of %d bytes, %v", suite.name, n, err)
			}
			p, typ, err := o.Open(b)
			if err != nil || typ != TypeHandshake {
				t.Fatalf("%s: update came as type %d, %v", suite.name, typ, err)
			}
			if answer, err := o.Handshake(p); err != nil || answer != (i%2 == 1) {
				t.Errorf("%s: update %d wants an answer: %v, %v", suite.name, i, answer, err)
			}
		}
	}
}

func TestNoGarbage(t *testing.T) {
	for _, suite := range suites {
		o, s := linePair(t, suite.id, suite.secret)
		b := make([]byte, MaxRecord)
		if n := testing.AllocsPerRun(100, func() {
			n, err := s.Seal(b, 1000, TypeApplicationData)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := o.Open(b[:n]); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a record", suite.name, n)
		}
	}
}

func BenchmarkSeal(b *testing.B) { bench(b, false) }
func BenchmarkOpen(b *testing.B) { bench(b, true) }

func bench(b *testing.B, open bool) {
	for _, suite := range suites {
		for _, size := range []int{1 << 10, 16 << 10} {
			b.Run(fmt.Sprintf("%s/%d", suite.name, size), func(b *testing.B) {
				o, s := linePair(b, suite.id, suite.secret)
				buf := make([]byte, size+Overhead)
				rec, work := make([]byte, size+Overhead), make([]byte, size+Overhead)
				if _, err := s.Seal(rec, size, TypeApplicationData); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if !open {
						if _, err := s.Seal(buf, size, TypeApplicationData); err != nil {
							b.Fatal(err)
						}
						continue
					}
					o.h.seq = 0
					copy(work, rec)
					if _, _, err := o.Open(work); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
