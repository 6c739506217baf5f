package proxy

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"hasp/mesh"
)

// secret is what kubectl create secret tls makes of a certificate for host.
func (m *gatewayLab) secret(t *testing.T, name, host string) mesh.Secret {
	t.Helper()
	cert := m.ca.issue(t, "spiffe://unused/x", func(c *x509.Certificate) { c.DNSNames = []string{host} })
	key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return mesh.Secret{
		Name: "kubernetes://" + name,
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}),
	}
}

// over is the answer to a request for host on a connection for the name sni:
// its status, and the name in the certificate.
func (m *gatewayLab) over(t *testing.T, sni, host string, change ...func(*tls.Config)) (int, string, error) {
	t.Helper()
	c := &tls.Config{RootCAs: m.ca.pool, ServerName: sni}
	for _, f := range change {
		f(c)
	}
	tr := &http.Transport{TLSClientConfig: c}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequest("GET", fmt.Sprintf("https://127.0.0.1:%d/", m.https), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	res, err := (&http.Client{Transport: tr, Timeout: patience}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	return res.StatusCode, strings.Join(res.TLS.PeerCertificates[0].DNSNames, ","), nil
}

// twoServers are two HTTPS servers on a port, the second for clients with a
// certificate only.
func (m *gatewayLab) twoServers(t *testing.T) {
	t.Helper()
	a, b := m.secret(t, "a", "a.example"), m.secret(t, "b", "b.example")
	b.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.ca.cert.Raw})
	open := m.serve(m.https, mesh.HTTPS, mesh.HTTPRoute{Hosts: []string{"a.example"}})
	open.Hosts, open.Secret = []string{"a.example"}, a.Name
	closed := m.serve(m.https, mesh.HTTPS, mesh.HTTPRoute{Hosts: []string{"b.example"}})
	closed.Hosts, closed.Secret, closed.Mutual = []string{"b.example"}, b.Name, true
	m.config.Secrets = []mesh.Secret{a, b}
	m.config.Gateway = []mesh.Server{open, closed}
	m.gw.apply(m.config)
}

// The name a client asks for chooses certificate, routes and whether it needs a
// certificate itself; a Host header does not lead from one server to another.
func TestGatewayServersBySNI(t *testing.T) {
	m := newGatewayLab(t, mirror)
	m.twoServers(t)
	mine := func(c *tls.Config) {
		c.Certificates = []tls.Certificate{*m.ca.issue(t, "spiffe://cluster.local/ns/out/sa/side")}
	}
	for _, tc := range []struct {
		sni, host string
		change    []func(*tls.Config)
		code      int
		cert      string
	}{
		{sni: "a.example", host: "a.example", code: 200, cert: "a.example"},
		{sni: "a.example", host: "other.example", code: 404, cert: "a.example"},
		{sni: "a.example", host: "b.example", code: 421, cert: "a.example"},
		{sni: "b.example", host: "b.example", change: []func(*tls.Config){mine}, code: 200, cert: "b.example"},
		{sni: "b.example", host: "a.example", change: []func(*tls.Config){mine}, code: 421, cert: "b.example"},
	} {
		code, cert, err := m.over(t, tc.sni, tc.host, tc.change...)
		if err != nil || code != tc.code || cert != tc.cert {
			t.Errorf("%s on a connection for %s: got %d from %s, %v; want %d from %s", tc.host, tc.sni, code, cert, err, tc.code, tc.cert)
		}
	}
	for _, sni := range []string{"b.example", "c.example"} {
		if code, _, err := m.over(t, sni, sni, func(c *tls.Config) { c.InsecureSkipVerify = true }); err == nil {
			t.Errorf("%s without a certificate: got %d", sni, code)
		}
	}
}

// A connection that was made before its server required a client certificate
// carries no further request.
func TestGatewayConnectionFromBeforeMutual(t *testing.T) {
	m := newGatewayLab(t, mirror)
	m.twoServers(t)
	before := m.config
	before.Gateway = slices.Clone(m.config.Gateway)
	before.Gateway[1].Mutual = false
	m.gw.apply(before)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: m.ca.pool, ServerName: "b.example"}}
	defer tr.CloseIdleConnections()
	get := func() int {
		req, _ := http.NewRequest("GET", fmt.Sprintf("https://127.0.0.1:%d/", m.https), nil)
		req.Host = "b.example"
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body) // so that the connection is used again
		res.Body.Close()
		return res.StatusCode
	}
	if code := get(); code != 200 {
		t.Fatalf("before: got %d", code)
	}
	m.gw.apply(m.config)
	if code := get(); code != 421 {
		t.Errorf("after: got %d, want 421", code)
	}
}

// With the mesh's own certificate, MUTUAL lets in who has one of the mesh.
func TestGatewayMutualWithTheMesh(t *testing.T) {
	m := newGatewayLab(t, mirror)
	s := m.serve(m.https, mesh.HTTPS, mesh.HTTPRoute{Hosts: []string{"*"}})
	s.Secret, s.Mutual = "default", true
	m.config.Gateway = []mesh.Server{s}
	m.gw.apply(m.config)
	for _, tc := range []struct {
		name string
		ca   *testCA
		code int
	}{{"of the mesh", m.ca, 200}, {"of another authority", newTestCA(t), 0}, {"none", nil, 0}} {
		code, _, err := m.over(t, "x", "x", func(c *tls.Config) {
			c.InsecureSkipVerify = true // an SVID has no DNS name
			if tc.ca != nil {
				c.Certificates = []tls.Certificate{*tc.ca.issue(t, "spiffe://cluster.local/ns/shop/sa/web")}
			}
		})
		if code != tc.code || (err == nil) != (tc.code != 0) {
			t.Errorf("certificate %s: got %d, %v", tc.name, code, err)
		}
	}
}

// Without an endpoint the answer is 503 and not the next route's.
func TestGatewayWithoutEndpointsSays503(t *testing.T) {
	m := newGatewayLab(t, mirror)
	m.config.Outbound.Clusters = slices.Clone(m.config.Outbound.Clusters)
	m.config.Outbound.Clusters[0].Endpoints = nil
	m.gw.apply(m.config)
	if code, body, _ := m.get(t, "/"); code != 503 || !strings.HasPrefix(body, "upstream connect error") {
		t.Errorf("got %d %q", code, body)
	}
}
