package proxy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hasp/mesh"
	"hasp/proxy/relay"
)

var portable = flag.Bool("portable", false, "run the tests with relay.Portable")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long anything may take on a busy machine under the race
// detector; nothing takes a second on an idle one.
const patience = time.Minute

// testCA is a certificate authority in memory.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newTestCA(t testing.TB) *testCA {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &testCA{cert: cert, key: key, pool: pool}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a workload certificate; change may break it.
func (ca *testCA) issue(t testing.TB, id string, change ...func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	u, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		URIs:         []*url.URL{u},
		NotBefore:    time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(tmpl)
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// identity is a fake source of certificates that never renews by itself.
type identity struct {
	cert  atomic.Pointer[tls.Certificate]
	roots atomic.Pointer[x509.CertPool]
}

func (i *identity) Certificate() (*tls.Certificate, error) {
	if c := i.cert.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("the authority has not answered")
}

func (i *identity) Roots() *x509.CertPool { return i.roots.Load() }

// node is one proxy on loopback. A listener of its own stands for each
// original destination.
type node struct {
	*Proxy
	t      testing.TB
	id     *identity
	spiffe string
	addr   netip.Addr // what its connections come from
	log    syncBuffer
	dst    sync.Map // local port -> original destination
}

func newNode(t testing.TB, ca *testCA, name, addr string, change ...func(*Config)) *node {
	t.Helper()
	n := &node{t: t, id: &identity{}, spiffe: mesh.Identity("cluster.local", "shop", name), addr: netip.MustParseAddr(addr)}
	n.id.cert.Store(ca.issue(t, n.spiffe))
	n.id.roots.Store(ca.pool)
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	cfg := Config{
		Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
		Identity: n.id,
		Dialer:   dialer,
		OrigDst: func(c net.Conn) (netip.AddrPort, error) {
			if d, ok := n.dst.Load(addrPort(c.LocalAddr()).Port()); ok {
				return d.(netip.AddrPort), nil
			}
			return netip.AddrPort{}, fmt.Errorf("not redirected")
		},
		AccessLog: &n.log,
		// No test waits for these, so a busy machine must not reach them.
		ConnectTimeout: patience, HandshakeTimeout: patience,
	}
	if *portable {
		cfg.Relay = relay.Portable{}
	}
	for _, f := range change {
		f(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Proxy = p
	t.Cleanup(p.Close)
	return n
}

// listen serves captured connections to dst and returns where to connect.
func (n *node) listen(serve func(context.Context, net.Listener) error, dst netip.AddrPort) netip.AddrPort {
	n.t.Helper()
	ln := listenOn(n.t, n.addr.String())
	at := addrPort(ln.Addr())
	n.dst.Store(at.Port(), dst)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := serve(ctx, ln); err != nil {
			n.t.Error(err)
		}
	}()
	n.t.Cleanup(func() { cancel(); <-done })
	return at
}

func (n *node) inboundFor(app netip.AddrPort) netip.AddrPort {
	return n.listen(n.ServeInbound, app)
}
func (n *node) outboundTo(dst netip.AddrPort) netip.AddrPort {
	return n.listen(n.ServeOutbound, dst)
}

func (n *node) apply(c mesh.ProxyConfig) {
	n.t.Helper()
	c.TrustDomain = "cluster.local"
	c.Identity = n.spiffe
	if c.Node == "" {
		c.Node = "shop/" + n.spiffe[strings.LastIndexByte(n.spiffe, '/')+1:]
	}
	if err := n.Apply(&c); err != nil {
		n.t.Fatal(err)
	}
}

// row waits for a connection that satisfies want and returns it.
func (n *node) row(want func(mesh.Connection) bool) mesh.Connection {
	n.t.Helper()
	var all []mesh.Connection
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		all = n.Connections()
		for _, c := range all {
			if want(c) {
				return c
			}
		}
	}
	n.t.Fatalf("no such connection among %+v", all)
	return mesh.Connection{}
}

func ended(c mesh.Connection) bool { return !c.End.IsZero() }

var vip = netip.MustParseAddrPort("10.96.0.3:8080")

const boardsHost = "boards.shop.svc.cluster.local"

// inboundConfig is one port's mode.
func inboundConfig(port uint16, mode mesh.Mode, proto mesh.Protocol) mesh.ProxyConfig {
	return mesh.ProxyConfig{Generation: 1, Inbound: mesh.Inbound{Ports: []mesh.InboundPort{{
		Port: port, Mode: mode, Protocol: proto, Service: boardsHost,
		Origin: mesh.Origin{Kind: "Policy", Namespace: "shop", Name: "default", Level: mesh.LevelNamespace},
	}}}}
}

// outboundConfig sends vip to one endpoint.
func outboundConfig(at netip.AddrPort, server string, tls mesh.ClientTLS, proto mesh.Protocol) mesh.ProxyConfig {
	name := "outbound|8080||" + boardsHost
	return mesh.ProxyConfig{Generation: 1, Outbound: mesh.Outbound{
		AllowAny:  true,
		Listeners: []mesh.Listener{{Addr: vip.Addr(), Port: vip.Port(), Cluster: name}},
		Clusters: []mesh.Cluster{{
			Name: name, Hostname: boardsHost, Namespace: "shop", Port: 8080, Protocol: proto, TLS: tls,
			Endpoints: []mesh.Endpoint{{ServicePort: 8080, Addr: at.Addr(), Port: at.Port(), Workload: "shop/boards", Identity: server, Sidecar: true}},
		}},
	}}
}

func istioMutual(ids ...string) mesh.ClientTLS {
	return mesh.ClientTLS{Mode: mesh.ClientIstioMutual, SubjectAltNames: ids,
		Origin: mesh.Origin{Kind: "DestinationRule", Namespace: "shop", Name: "mtls", Level: mesh.LevelNamespace}}
}

func listenOn(t testing.TB, host string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// app is a workload: it runs serve for each connection.
func app(t testing.TB, serve func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	return appOn(t, listenOn(t, "127.0.0.1"), serve)
}

// appOn is app on a listener, which ends it when it is closed.
func appOn(t testing.TB, ln net.Listener, serve func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return addrPort(ln.Addr())
}

// echo sends back what it gets, until the end. (The wrappers keep io.Copy from
// splicing, which would take two more descriptors.)
func echo(c *net.TCPConn) {
	io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 512))
	c.CloseWrite()
}

// greeter speaks first, as MySQL does, then echoes.
func greeter(c *net.TCPConn) {
	io.WriteString(c, "220 hello\n")
	echo(c)
}

// dial connects from an address of loopback.
func dial(t testing.TB, from string, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// call is ask over a new connection. On loopback a reset can be quicker than
// connect; then it is connect's error.
func call(t testing.TB, from string, to netip.AddrPort, msg string) (string, error) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", to.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	return ask(c.(*net.TCPConn), msg)
}

// ask sends a message, ends its half and returns the whole answer.
func ask(c interface {
	io.ReadWriter
	CloseWrite() error
}, msg string) (string, error) {
	if _, err := io.WriteString(c, msg); err != nil {
		return "", err
	}
	if err := c.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) { // reset already: reading tells
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

var _ relay.Observer = (*observer)(nil)
