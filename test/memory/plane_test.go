package memory

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"hasp/ca"
	"hasp/ca/csr"
	"hasp/mesh"
	"hasp/xds/server"
)

const (
	domain = "cluster.local"
	istiod = "spiffe://cluster.local/ns/istio-system/sa/istiod"
)

// plane is a control plane: certificates, configurations, and an ear for
// reports.
type plane struct {
	ca      *ca.CA
	tokens  *ca.Tokens
	addr    string
	configs map[string]*mesh.ProxyConfig // by node; not changed once proxies run
}

// newPlane is the control plane of the client's and the server's sidecar, in a
// namespace.
func newPlane(t *testing.T, ns netns.NsHandle, protocol mesh.Protocol) *plane {
	t.Helper()
	authority, err := ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: spiffeid.RequireTrustDomainFromString(domain)})
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{ca: authority, tokens: ca.NewTokens(0, nil), configs: map[string]*mesh.ProxyConfig{
		clientNode: shop(clientNode, clientID, protocol),
		serverNode: shop(serverNode, serverID, protocol),
	}}
	self, err := p.ca.Server(spiffeid.RequireFromString(istiod))
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	signer, err := csr.NewServer(csr.ServerConfig{CA: p.ca, Verifiers: []csr.Verifier{csr.JoinTokens{Tokens: p.tokens}}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	xds, err := server.New(server.Config{
		Source: p, Log: quiet,
		Reports:   func(string, spiffeid.ID, *mesh.Report) error { return nil },
		MayReport: func(string, spiffeid.ID) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	var ln net.Listener
	in(ns, func() { ln, err = net.Listen("tcp", netip.AddrPortFrom(clientAddr, planePort).String()) })
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(server.Options(self)...)
	signer.Register(g)
	xds.Register(g)
	var serving errgroup.Group
	serving.Go(func() error { return g.Serve(ln) })
	t.Cleanup(func() { g.Stop(); _ = serving.Wait() })
	p.addr = ln.Addr().String()
	return p
}

// ConfigFor implements server.Source.
func (p *plane) ConfigFor(node string, _ spiffeid.ID) (*mesh.ProxyConfig, error) {
	if c := p.configs[node]; c != nil {
		return c, nil
	}
	return nil, server.ErrNotFound
}

// bootstrap of a sidecar.
func (p *plane) bootstrap(t *testing.T, node, identity string) mesh.Bootstrap {
	t.Helper()
	token, err := p.tokens.Issue(spiffeid.RequireFromString(identity), node, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return mesh.Bootstrap{
		Node: node, Identity: identity, Role: mesh.RoleSidecar, Mark: mark,
		ControlPlane: p.addr, ControlPlaneID: istiod, Roots: string(p.ca.Bundle()), Token: token,
	}
}

// shop is the configuration of a sidecar in a mesh of some services, the last of
// which is where the server is.
func shop(node, identity string, protocol mesh.Protocol) *mesh.ProxyConfig {
	decided := mesh.Origin{Kind: "PeerAuthentication", Namespace: "shop", Name: "default"}
	c := &mesh.ProxyConfig{
		Generation: 1, Node: node, Identity: identity, TrustDomain: domain, Role: mesh.RoleSidecar,
		Inbound: mesh.Inbound{
			Default: mesh.InboundPort{Mode: mesh.ModeStrict, Origin: decided},
			Ports:   []mesh.InboundPort{{Port: appPort, Mode: mesh.ModeStrict, Origin: decided, Protocol: protocol, Service: "server.shop.svc.cluster.local"}},
		},
		Outbound: mesh.Outbound{AllowAny: true},
	}
	for i := range services {
		addr, name := netip.AddrFrom4([4]byte{10, 10, 0, byte(i)}), fmt.Sprintf("service-%03d", i)
		if i == services-1 {
			addr, name = serverAddr, "server"
		}
		host, workload, id := name+".shop.svc.cluster.local", "shop/"+name+"-1", "spiffe://cluster.local/ns/shop/sa/"+name
		cluster := fmt.Sprintf("outbound|%d||%s", appPort, host)
		c.Outbound.Listeners = append(c.Outbound.Listeners, mesh.Listener{Addr: addr, Port: appPort, Cluster: cluster})
		c.Outbound.Clusters = append(c.Outbound.Clusters, mesh.Cluster{
			Name: cluster, Hostname: host, Namespace: "shop", Port: appPort, Protocol: protocol, TLS: mesh.ClientTLS{Auto: true},
			Endpoints: []mesh.Endpoint{{ServicePort: appPort, Addr: addr, Port: appPort, Workload: workload, Identity: id, Sidecar: true}},
		})
		c.Peers = append(c.Peers, mesh.Peer{Addr: addr, Workload: workload, Identity: id, Sidecar: true, Names: mesh.Names{Owner: name, App: name, Service: name, Revision: "latest"}})
	}
	return c
}
