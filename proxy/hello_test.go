package proxy

import (
	"bytes"
	"crypto/tls"
	"net"
	"slices"
	"testing"
	"time"
)

// clientHello is the first flight of a real client.
func clientHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan []byte)
	go func() {
		buf := make([]byte, maxHello)
		n, _ := b.Read(buf)
		b.Close()
		done <- buf[:n]
	}()
	a.SetDeadline(time.Now().Add(patience))
	_ = tls.Client(a, config).Handshake() // fails: nobody answers
	return <-done
}

func TestReadHello(t *testing.T) {
	hello := clientHello(t, &tls.Config{ServerName: "boards.shop", NextProtos: []string{"istio"}})
	if len(hello) < 1200 {
		t.Errorf("the ClientHello has %d bytes: no post-quantum key share?", len(hello))
	}
	after := append(slices.Clone(hello), "early data"...)
	h, read, ok := readHello(bytes.NewReader(after))
	if !ok || !meshALPN(h.alpn) || h.sni != "boards.shop" {
		t.Errorf("got %+v, %v", h, ok)
	}
	if !bytes.HasPrefix(after, read) || len(read) < len(hello) {
		t.Errorf("consumed %d bytes of %d and did not give them back", len(read), len(hello))
	}
	if _, read, ok := readHello(bytes.NewReader(hello[:500])); ok || !bytes.Equal(read, hello[:500]) {
		t.Errorf("half a ClientHello: ok %v, read %d", ok, len(read))
	}
}

func TestMeshALPN(t *testing.T) {
	for _, tc := range []struct {
		alpn []string
		want bool
	}{
		{[]string{"istio"}, true},
		{[]string{"istio-peer-exchange", "istio"}, true}, // Envoy, TCP
		{[]string{"istio-http/1.1"}, true},
		{[]string{"h2", "http/1.1"}, false},
		{[]string{"istiod"}, false},
		{nil, false},
	} {
		if got := meshALPN(tc.alpn); got != tc.want {
			t.Errorf("%q: %v", tc.alpn, got)
		}
	}
}

// Whatever a stranger sends: no panic, no more than the limit, and every byte
// that was consumed is given back.
func FuzzReadHello(f *testing.F) {
	f.Add(clientHello(f, &tls.Config{ServerName: "x", NextProtos: []string{"istio"}}))
	f.Add(clientHello(f, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}))
	f.Add([]byte{0x16, 3, 1, 0xff, 0xff})
	f.Add([]byte("\x16GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, read, _ := readHello(bytes.NewReader(b))
		if len(read) > maxHello {
			t.Errorf("read %d bytes", len(read))
		}
		if !bytes.HasPrefix(b, read) {
			t.Error("the bytes given back are not those that came")
		}
	})
}
