package proof_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/ca"
	"hasp/mesh"
	"hasp/proof"
)

const (
	serverID = "spiffe://cluster.local/ns/shop/sa/web"
	memberID = "spiffe://cluster.local/ns/istio-system/sa/hasp-verify"
)

func authority(t *testing.T) *ca.CA {
	t.Helper()
	a, err := ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local")})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *ca.CA, id string) *tls.Certificate {
	t.Helper()
	c, err := a.Issue(spiffeid.RequireFromString(id), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func credentials(t *testing.T, a *ca.CA) proof.Credentials {
	t.Helper()
	stranger, err := a.Stranger()
	if err != nil {
		t.Fatal(err)
	}
	other, err := proof.FromOtherCA(memberID)
	if err != nil {
		t.Fatal(err)
	}
	return proof.Credentials{Roots: a.Roots(), Certificates: map[proof.Stranger]*tls.Certificate{
		proof.Member: issue(t, a, memberID), proof.OtherCA: other, proof.OtherDomain: stranger,
	}}
}

// door is a server in front of a workload. Its zero value lets nobody in but
// members of the mesh.
type door struct {
	plaintext, bare, anyCA, anyDomain bool
	mute                              bool // plaintext gets no answer, and no end
	id                                string
}

// open it, and say where.
func (d door) open(t *testing.T, a *ca.CA) netip.AddrPort {
	t.Helper()
	if d.id == "" {
		d.id = serverID
	}
	config := &tls.Config{Certificates: []tls.Certificate{*issue(t, a, d.id)}, NextProtos: []string{"istio"}, ClientAuth: tls.RequireAnyClientCert,
		SessionTicketsDisabled: true}
	if d.bare {
		config.ClientAuth = tls.RequestClientCert
	}
	if !d.anyCA && !d.bare {
		config.VerifyConnection = func(cs tls.ConnectionState) error {
			between := x509.NewCertPool()
			for _, up := range cs.PeerCertificates[1:] {
				between.AddCert(up)
			}
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: a.Roots(), Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			return err
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go d.serve(c.(*net.TCPConn), config)
		}
	}()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func (d door) serve(c *net.TCPConn, config *tls.Config) {
	defer c.Close()
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		return
	}
	if first[0] != 0x16 {
		switch {
		case d.plaintext:
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		case d.mute:
			_, _ = io.Copy(io.Discard, c)
		default:
			_ = c.SetLinger(0)
		}
		return
	}
	s := tls.Server(&again{c, first}, config)
	if s.Handshake() != nil {
		return
	}
	peers := s.ConnectionState().PeerCertificates
	if len(peers) > 0 && !d.anyDomain && peers[0].URIs[0].Host != "cluster.local" {
		_ = c.SetLinger(0)
		return
	}
	if n, _ := s.Read(make([]byte, 1)); n > 0 {
		panic("a member said something")
	}
}

// again reads what was read already.
type again struct {
	net.Conn
	head []byte
}

func (a *again) Read(p []byte) (int, error) {
	if len(a.head) > 0 {
		n := copy(p, a.head)
		a.head = a.head[n:]
		return n, nil
	}
	return a.Conn.Read(p)
}

// Each door has one fault, and the one attempt that looks for it finds it.
func TestKnock(t *testing.T) {
	a := authority(t)
	show := credentials(t, a)
	all := []proof.Stranger{proof.Plain, proof.Bare, proof.OtherCA, proof.OtherDomain, proof.Member}
	for _, c := range []struct {
		name string
		door door
		in   string // who is let in
	}{
		{"closed", door{}, "member"},
		{"plaintext is answered", door{plaintext: true}, "plaintext member"},
		{"no certificate is needed", door{bare: true}, "no-certificate other-ca member"},
		{"any authority will do", door{anyCA: true}, "other-ca member"},
		{"any trust domain will do", door{anyDomain: true}, "other-trust-domain member"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			at := c.door.open(t, a)
			var in []string
			for _, who := range all {
				s := proof.Knock(t.Context(), who, at, show)
				if !s.Reached || s.Saw == "" || len(s.Trace) != 16 || s.Took <= 0 {
					t.Errorf("%s: %+v", who, s)
				}
				if s.Accepted {
					in = append(in, string(who))
				}
			}
			if got := strings.Join(in, " "); got != c.in {
				t.Errorf("let in: %q, want %q", got, c.in)
			}
		})
	}
}

func TestKnockSees(t *testing.T) {
	a := authority(t)
	show := credentials(t, a)
	closed := door{}.open(t, a)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := ln.Addr().(*net.TCPAddr).AddrPort()
	ln.Close()
	for _, c := range []struct {
		who  proof.Stranger
		at   netip.AddrPort
		want string
	}{
		{proof.Plain, closed, "connection reset"},
		{proof.Bare, closed, "after the handshake: TLS alert: tls: certificate required"},
		{proof.OtherCA, closed, "after the handshake: TLS alert: tls: bad certificate"},
		{proof.OtherDomain, closed, "after the handshake: connection reset"},
		{proof.Member, closed, "the handshake went through and the connection stayed open"},
		{proof.Member, gone, "not reached: connection refused"},
		{proof.Member, door{id: "spiffe://cluster.local/ns/shop/sa/other"}.open(t, a), "the handshake went through and the connection stayed open"},
		{proof.Member, door{}.open(t, authority(t)), "the server's certificate: x509: certificate signed by unknown authority"},
	} {
		s := proof.Knock(t.Context(), c.who, c.at, show)
		if !strings.HasPrefix(s.Saw, c.want) {
			t.Errorf("%s saw %q, want %q", c.who, s.Saw, c.want)
		}
		if s.Shaken && (s.TLS != "1.3" || s.Group != "X25519MLKEM768" || !strings.HasPrefix(s.Identity, "spiffe://cluster.local/ns/shop/sa/")) {
			t.Errorf("%s: %+v", c.who, s.Evidence)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s := proof.Knock(ctx, proof.Plain, closed, show); s.Reached {
		t.Errorf("cancelled: %+v", s)
	}
}

// The trace is what the proxy at the other end computes, too.
func TestTrace(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	traces := make(chan string, 2)
	go func() {
		for range 2 {
			c, err := ln.Accept()
			if err != nil {
				traces <- err.Error()
				return
			}
			traces <- theirs(c)
			c.Close()
		}
	}()
	for _, who := range []proof.Stranger{proof.Member, proof.Plain} {
		s := proof.Knock(t.Context(), who, ln.Addr().(*net.TCPAddr).AddrPort(), proof.Credentials{})
		if got := <-traces; got != s.Trace {
			t.Errorf("%s: %s here, %s there", who, s.Trace, got)
		}
	}
}

func theirs(c net.Conn) string {
	head := make([]byte, 5)
	if _, err := io.ReadFull(c, head); err != nil {
		return err.Error()
	}
	if head[0] != 0x16 {
		return mesh.TraceOf(nil, c.RemoteAddr().(*net.TCPAddr).AddrPort(), c.LocalAddr().(*net.TCPAddr).AddrPort())
	}
	hello := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(c, hello); err != nil {
		return errors.New("no ClientHello: " + err.Error()).Error()
	}
	return mesh.TraceOf(hello[6:38], netip.AddrPort{}, netip.AddrPort{})
}
