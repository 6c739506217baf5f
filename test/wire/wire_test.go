package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// link makes the frames of one connection.
type link struct {
	tap            *Tap
	client, server netip.AddrPort
	cseq, sseq     uint32
}

const (
	fin = 1 << iota
	syn
	rst
	_
	ack
)

func newLink(tap *Tap, client, server string) *link {
	l := &link{tap: tap, client: netip.MustParseAddrPort(client), server: netip.MustParseAddrPort(server), cseq: 0xffffff00, sseq: 7}
	l.send(true, l.cseq, syn, "")
	l.send(false, l.sseq, syn|ack, "")
	l.cseq++
	l.sseq++
	return l
}

func (l *link) send(fromClient bool, seq uint32, flags byte, payload string) {
	from, to := l.server, l.client
	if fromClient {
		from, to = to, from
	}
	l.tap.Frame(time.Unix(1, 0), frame(from, to, seq, flags, payload))
}

func frame(from, to netip.AddrPort, seq uint32, flags byte, payload string) []byte {
	b := make([]byte, 14)
	length := 20 + len(payload)
	if from.Addr().Is4() {
		binary.BigEndian.PutUint16(b[12:], etherIPv4)
		ip := make([]byte, 12)
		ip[0], ip[9] = 0x45, protoTCP
		binary.BigEndian.PutUint16(ip[2:], uint16(20+length))
		b = append(b, ip...)
	} else {
		binary.BigEndian.PutUint16(b[12:], etherIPv6)
		ip := make([]byte, 8)
		ip[0], ip[6] = 0x60, protoTCP
		binary.BigEndian.PutUint16(ip[4:], uint16(length))
		b = append(b, ip...)
	}
	b = append(append(b, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp[0:], from.Port())
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	tcp[12], tcp[13] = 5<<4, flags
	return append(append(b, tcp...), payload...)
}

func one(t *testing.T, tap *Tap) Connection {
	t.Helper()
	r := tap.Report(0)
	if len(r.Connections) != 1 {
		t.Fatalf("%d connections, want 1: %+v", len(r.Connections), r)
	}
	return r.Connections[0]
}

// A request in disorder, twice and across the sequence number's wrap is read as
// it was sent; the answer's marker is the server's.
func TestPlain(t *testing.T) {
	for _, ends := range [][2]string{{"10.77.0.2:40000", "10.77.0.3:8080"}, {"[fd77::2]:40000", "[fd77::3]:8080"}} {
		var tap Tap
		l := newLink(&tap, ends[0], ends[1])
		request := strings.Repeat("x", 250) + "HASP-MARK-one rest"
		l.send(true, l.cseq+255, ack, request[255:])
		l.send(true, l.cseq, ack, request[:253])
		l.send(true, l.cseq+240, ack, request[240:258])
		l.send(true, l.cseq, ack, request[:253])
		l.send(false, l.sseq, ack, "HASP-MARK-two.")
		l.send(false, l.sseq+14, ack|rst, "")
		want := Connection{
			Start: time.Unix(1, 0), Client: l.client, Server: l.server,
			FromClient: Direction{Bytes: int64(len(request)), Markers: []string{"HASP-MARK-one"}},
			FromServer: Direction{Bytes: 14, Markers: []string{"HASP-MARK-two"}, Reset: true},
		}
		if diff := cmp.Diff(want, one(t, &tap), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

// What is missing is admitted.
func TestGap(t *testing.T) {
	var tap Tap
	l := newLink(&tap, "10.77.0.2:40000", "10.77.0.3:8080")
	l.send(true, l.cseq+100, ack, "HASP-MARK-late")
	got := one(t, &tap).FromClient
	if !got.Truncated || got.Bytes != 0 || got.Markers != nil {
		t.Errorf("got %+v, want nothing read and Truncated", got)
	}
	l.tap.Frame(time.Unix(1, 0), frame(netip.MustParseAddrPort("10.77.0.9:1"), l.server, 1, ack, "x"))
	if r := tap.Report(3); r.Untracked != 1 || r.Dropped != 3 {
		t.Errorf("untracked %d, dropped %d; want 1 and 3", r.Untracked, r.Dropped)
	}
}

// A port that is used again is another connection.
func TestPortReuse(t *testing.T) {
	var tap Tap
	newLink(&tap, "10.77.0.2:40000", "10.77.0.3:8080")
	l := &link{tap: &tap, client: netip.MustParseAddrPort("10.77.0.2:40000"), server: netip.MustParseAddrPort("10.77.0.3:8080")}
	l.send(true, 99, syn, "")
	if n := len(tap.Report(0).Connections); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// Real handshakes are recognised, after PostgreSQL's greeting too, and what is
// said in them is not read.
func TestTLS(t *testing.T) {
	for _, c := range []struct {
		name    string
		version uint16
		before  [2]string
		want    string
	}{
		{"1.2", tls.VersionTLS12, [2]string{}, "1.2"},
		{"1.3", tls.VersionTLS13, [2]string{}, "1.3"},
		{"PostgreSQL", tls.VersionTLS13, [2]string{string(pgSSLRequest), "S"}, "1.3"},
		{"not TLS before it", tls.VersionTLS13, [2]string{"hello", "S"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server := handshakeBytes(t, c.version)
			var tap Tap
			l := newLink(&tap, "10.77.0.2:40000", "10.77.0.3:8080")
			sendAll(l, true, c.before[0]+client)
			sendAll(l, false, c.before[1]+server)
			got := one(t, &tap)
			if got.TLS != c.want || got.FromClient.Markers != nil || got.FromServer.Markers != nil {
				t.Errorf("got %+v, want TLS %q and no marker", got, c.want)
			}
			if alpn := strings.Join(got.ALPN, " "); c.want != "" && alpn != "istio-peer-exchange istio" {
				t.Errorf("ALPN %q", alpn)
			}
		})
	}
}

func sendAll(l *link, fromClient bool, data string) {
	seq := l.sseq
	if fromClient {
		seq = l.cseq
	}
	for at := 0; at < len(data); at += 300 {
		l.send(fromClient, seq+uint32(at), ack, data[at:min(at+300, len(data))])
	}
}

// handshakeBytes is what both ends of a real connection send, marker included.
func handshakeBytes(t *testing.T, version uint16) (client, server string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	ca, cb := &recorder{Conn: a}, &recorder{Conn: b}
	protos := []string{"istio-peer-exchange", "istio"}
	done := make(chan error, 1)
	go func() {
		s := tls.Server(cb, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: protos, MaxVersion: version})
		_, err := io.Copy(s, s)
		s.Close()
		done <- err
	}()
	c := tls.Client(ca, &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
	if _, err := c.Write([]byte("HASP-MARK-secret")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return ca.sent.String(), cb.sent.String()
}

type recorder struct {
	net.Conn
	sent strings.Builder
}

func (r *recorder) Write(b []byte) (int, error) {
	r.sent.Write(b)
	return r.Conn.Write(b)
}

func FuzzFrame(f *testing.F) {
	for _, ends := range [][2]string{{"10.77.0.2:40000", "10.77.0.3:8080"}, {"[fd77::2]:40000", "[fd77::3]:8080"}} {
		a, b := netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])
		f.Add(frame(a, b, 1, syn, ""), frame(a, b, 2, ack, "HASP-MARK-x"))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var tap Tap
		for range 2 {
			tap.Frame(time.Unix(1, 0), first)
			tap.Frame(time.Unix(1, 0), second)
		}
		for _, c := range tap.Report(0).Connections {
			if n := int64(len(first) + len(second)); c.FromClient.Bytes > n || c.FromServer.Bytes > n {
				t.Errorf("more bytes than were sent: %+v", c)
			}
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		clientALPN(data)
		serverVersion(data)
	})
}
