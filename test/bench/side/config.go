package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"hasp/mesh"
)

const host = "boards.shop.svc.cluster.local"

// service is the virtual address of the nth port.
func service(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, 3}), uint16(8080+n))
}

// configuration is what the control plane would send: STRICT at the server, a
// DestinationRule with ISTIO_MUTUAL at the client.
func configuration(o options) mesh.ProxyConfig {
	c := mesh.ProxyConfig{
		Generation: 1, Identity: o.self, TrustDomain: "cluster.local", Role: mesh.RoleSidecar,
		Node: "shop/" + o.self[strings.LastIndexByte(o.self, '/')+1:],
	}
	for i, p := range o.ports {
		if o.role == "server" {
			c.Inbound.Ports = append(c.Inbound.Ports, mesh.InboundPort{
				Port: p.to.Port(), Mode: mesh.ModeStrict, Protocol: p.protocol, Service: host,
				Origin: mesh.Origin{Kind: "PeerAuthentication", Namespace: "shop", Name: "default", Level: mesh.LevelNamespace},
			})
			continue
		}
		at := service(i)
		name := fmt.Sprintf("outbound|%d||%s", at.Port(), host)
		c.Outbound.Listeners = append(c.Outbound.Listeners, mesh.Listener{Addr: at.Addr(), Port: at.Port(), Cluster: name})
		c.Outbound.Clusters = append(c.Outbound.Clusters, mesh.Cluster{
			Name: name, Hostname: host, Namespace: "shop", Port: at.Port(), Protocol: p.protocol,
			TLS: mesh.ClientTLS{Mode: mesh.ClientIstioMutual, SubjectAltNames: []string{o.peer},
				Origin: mesh.Origin{Kind: "DestinationRule", Namespace: "shop", Name: "mtls", Level: mesh.LevelNamespace}},
			Endpoints: []mesh.Endpoint{{ServicePort: at.Port(), Addr: p.to.Addr(), Port: p.to.Port(), Workload: "shop/boards", Identity: o.peer, Sidecar: true}},
		})
	}
	return c
}

// identity is a certificate that is never renewed.
type identity struct {
	cert  *tls.Certificate
	roots *x509.CertPool
}

func readIdentity(cert, key, roots string) (*identity, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(roots)
	if err != nil {
		return nil, err
	}
	id := &identity{cert: &pair, roots: x509.NewCertPool()}
	if !id.roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", roots)
	}
	return id, nil
}

func (i *identity) Certificate() (*tls.Certificate, error) { return i.cert, nil }
func (i *identity) Roots() *x509.CertPool                  { return i.roots }
