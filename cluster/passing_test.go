package cluster

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/ca"
	"hasp/mesh"
	"hasp/world"
)

// Each other replica is connected to as long as it is there, as the control
// plane; nobody else is.
func TestPassing(t *testing.T) {
	id := spiffeid.RequireFromString("spiffe://cluster.local/ns/istio-system/sa/istiod")
	authority, err := ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: id.TrustDomain()})
	if err != nil {
		t.Fatal(err)
	}
	own, err := authority.Server(id)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: own.Roots(), GetCertificate: own.GetCertificate,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	came := make(chan string)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s := c.(*tls.Conn)
			who := "nobody"
			if s.Handshake() == nil {
				who = s.ConnectionState().PeerCertificates[0].URIs[0].String()
			}
			c.Close()
			select {
			case came <- who:
			case <-t.Context().Done():
				return
			}
		}
	}()
	there := ln.Addr().(*net.TCPAddr).AddrPort()
	replica := func(namespace, name, app string, addr netip.Addr) *mesh.Workload {
		return &mesh.Workload{Namespace: namespace, Name: name, Labels: map[string]string{"app": app}, Addresses: []netip.Addr{addr}, Ready: true}
	}
	w := &world.World{Workloads: []*mesh.Workload{
		replica(Namespace, "istiod-self", "istiod", netip.MustParseAddr("127.0.0.77")),
		replica(Namespace, "istiod-there", "istiod", there.Addr()),
		replica("shop", "istiod-false", "istiod", netip.MustParseAddr("127.0.0.78")),
	}}
	p := &passing{
		self: "istiod-self", port: int(there.Port()), world: func() *world.World { return w }, anew: func(context.Context) {},
		tls: func() *tls.Config { return replicaTLS(own, id) }, log: slog.New(slog.DiscardHandler), to: map[netip.Addr]*passingTo{},
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	p.look(ctx, w, &running)
	p.look(ctx, w, &running)
	if len(p.to) != 1 || p.to[there.Addr()] == nil {
		t.Fatalf("it is passed on to %v, want %s alone", p.to, there.Addr())
	}
	select {
	case who := <-came:
		if who != id.String() {
			t.Errorf("%s came, want the control plane", who)
		}
	case <-time.After(time.Minute):
		t.Fatal("nobody came")
	}
	p.tell(&mesh.Report{Node: "shop/web-1"}) // does not wait for anybody
	w.Workloads = w.Workloads[:1]
	p.look(ctx, w, &running)
	if len(p.to) != 0 {
		t.Errorf("it is passed on to one that is gone: %v", p.to)
	}
}

// Reports go to the control plane only, however much the certificate is of the
// mesh.
func TestReplicaTLS(t *testing.T) {
	id := spiffeid.RequireFromString("spiffe://cluster.local/ns/istio-system/sa/istiod")
	authority := func() *ca.CA {
		a, err := ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: id.TrustDomain()})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	ours, theirs := authority(), authority()
	own, err := ours.Server(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		by *ca.CA
		id string
		ok bool
	}{{ours, id.String(), true}, {ours, "spiffe://cluster.local/ns/shop/sa/thief", false}, {theirs, id.String(), false}} {
		cert, err := c.by.Issue(spiffeid.RequireFromString(c.id), 0)
		if err != nil {
			t.Fatal(err)
		}
		a, b := net.Pipe()
		go func() {
			_ = tls.Server(b, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2"}}).Handshake()
			b.Close()
		}()
		err = tls.Client(a, replicaTLS(own, id)).Handshake()
		a.Close()
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.id, err)
		}
	}
}
