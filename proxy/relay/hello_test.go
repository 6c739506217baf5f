package relay

import (
	"bytes"
	"crypto/tls"
	"errors"
	"testing"
)

// helloBytes is what a real client sends first.
func helloBytes(t testing.TB) []byte {
	t.Helper()
	a, b := tcpPair(t)
	go func() {
		defer b.Close()
		_ = tls.Client(b, &tls.Config{InsecureSkipVerify: true}).Handshake() // fails: nobody answers
	}()
	buf := make([]byte, 16<<10)
	n, err := a.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	return buf[:n]
}

func TestClientRandom(t *testing.T) {
	hello := helloBytes(t)
	change := func(at int, to byte) []byte {
		b := bytes.Clone(hello)
		b[at] = to
		return b
	}
	for _, tc := range []struct {
		name string
		b    []byte
		want []byte
	}{
		{"whole", hello, hello[11:43]},
		{"no more than the random", hello[:43], hello[11:43]},
		{"cut short", hello[:42], nil},
		{"nothing", nil, nil},
		{"application data", change(0, 23), nil},
		{"a ServerHello", change(5, 2), nil},
		{"in more than one record", append([]byte{22, 3, 1, 0, 20}, hello[5:]...), nil},
		{"HTTP", bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 4), nil},
	} {
		if got := ClientRandom(tc.b); !bytes.Equal(got, tc.want) {
			t.Errorf("%s: got %x, want %x", tc.name, got, tc.want)
		}
		var h Hello
		for i := range tc.b { // in pieces of a byte
			h.Add(tc.b[i : i+1])
		}
		if got := h.Random(); !bytes.Equal(got, tc.want) {
			t.Errorf("%s, a byte at a time: got %x, want %x", tc.name, got, tc.want)
		}
		if h.Done() != (len(tc.b) >= 43 || len(tc.b) > 0 && tc.b[0] != 22) {
			t.Errorf("%s: done is %v", tc.name, h.Done())
		}
	}
}

// Both ends take the same random down, the server also of what was read before.
func TestSocketsShareTheRandom(t *testing.T) {
	for _, before := range []int{0, 1, 43, 200} {
		a, b := tcpPair(t)
		cs := NewSocket(a, nil)
		client := tls.Client(cs, &tls.Config{InsecureSkipVerify: true})
		done := make(chan error, 1)
		go func() { done <- client.Handshake() }()
		for PeekRandom(b) == nil { // until the hello is there
		}
		peeked := PeekRandom(b)
		head := make([]byte, before)
		if _, err := b.Read(head); before > 0 && err != nil {
			t.Fatal(err)
		}
		ss := NewSocket(b, head)
		server := tls.Server(ss, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
		if err := errors.Join(server.Handshake(), <-done); err != nil {
			t.Fatal(err)
		}
		if r := cs.ClientRandom(); len(r) != 32 || !bytes.Equal(r, ss.ClientRandom()) || !bytes.Equal(r, peeked) {
			t.Errorf("%d bytes read before: client %x, server %x, peeked %x", before, r, ss.ClientRandom(), peeked)
		}
	}
}

func TestSocketWithoutTLS(t *testing.T) {
	a, b := tcpPair(t)
	client, server := NewSocket(a, nil), NewSocket(b, nil)
	if _, err := client.Write([]byte("HELO x\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if client.ClientRandom() != nil || server.ClientRandom() != nil || PeekRandom(b) != nil {
		t.Error("a random of nothing")
	}
}

func FuzzClientRandom(f *testing.F) {
	f.Add(helloBytes(f), 7)
	f.Add([]byte{22, 3, 1, 0, 20}, 1)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		want := ClientRandom(b)
		if cut %= len(b) + 1; cut < 0 {
			cut = -cut
		}
		var h Hello
		h.Add(b[:cut])
		h.Add(b[cut:])
		if got := h.Random(); !bytes.Equal(got, want) {
			t.Errorf("got %x in two pieces, %x in one", got, want)
		}
	})
}
