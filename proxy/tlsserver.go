package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// alpnIstio is what a proxy of the mesh offers, so that a PERMISSIVE server can
// tell its TLS from an application's own.
const alpnIstio = "istio"

// meshALPN tells whether a ClientHello comes from a proxy of the mesh: ours, or
// an Envoy of Istio ("istio-peer-exchange", "istio-h2", ...).
func meshALPN(protos []string) bool {
	return slices.ContainsFunc(protos, func(s string) bool {
		return s == alpnIstio || s == alpnTrunk || strings.HasPrefix(s, "istio-")
	})
}

// meshProtos are a proxy's own.
func meshProtos(trunks bool) []string {
	if trunks {
		return []string{alpnTrunk, alpnIstio}
	}
	return []string{alpnIstio}
}

// curves are offered and accepted between proxies: a hybrid with ML-KEM-768
// first, then what every TLS 1.3 stack has.
var curves = []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256}

// suites12 are for peers that mesh configuration lets speak TLS 1.2.
var suites12 = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
}

var errNoCertificate = errors.New("the proxy has no certificate")

// serverTLS holds the server's configurations, by minimum version. They live as
// long as the proxy: certificate and roots are looked up by handshake.
type serverTLS struct{ v12, v13, probe12, probe13 *tls.Config }

func newServerTLS(id Identity, now func() time.Time, trunks bool) *serverTLS {
	s := &serverTLS{
		v12: newServerConfig(id, now, tls.VersionTLS12, false),
		v13: newServerConfig(id, now, tls.VersionTLS13, trunks),
	}
	s.probe12, s.probe13 = newProbeConfig(s.v12), newProbeConfig(s.v13)
	return s
}

func (s *serverTLS) config(minVersion uint16) *tls.Config {
	if minVersion == tls.VersionTLS12 {
		return s.v12
	}
	return s.v13
}

// probeConfig is for a port with an HTTPS probe.
func (s *serverTLS) probeConfig(minVersion uint16) *tls.Config {
	if minVersion == tls.VersionTLS12 {
		return s.probe12
	}
	return s.probe13
}

// newProbeConfig is base for callers inside the mesh, and lets others come
// without a certificate: kubelets have none. What they may say then is the
// caller's to watch.
func newProbeConfig(base *tls.Config) *tls.Config {
	c := base.Clone()
	c.ClientAuth = tls.RequestClientCert
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil
		}
		return base.VerifyConnection(cs)
	}
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		noteOffer(h)
		if meshALPN(h.SupportedProtos) {
			if m, err := base.GetConfigForClient(h); m != nil || err != nil {
				return m, err
			}
			return base, nil
		}
		return nil, nil
	}
	return c
}

// newServerConfig is for callers inside the mesh: a client certificate is
// required and must be an X.509-SVID. Whether its trust domain may call is for
// judge, which sees the current settings.
func newServerConfig(id Identity, now func() time.Time, minVersion uint16, trunks bool) *tls.Config {
	c := &tls.Config{
		MinVersion:       minVersion,
		CurvePreferences: curves,
		CipherSuites:     suites12,
		ClientAuth:       tls.RequireAnyClientCert,
		// No tickets: a resumed session would skip the check of the chain
		// against the roots of today.
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return certificate(id)
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := verifyPeer(&cs, id, x509.ExtKeyUsageClientAuth, now())
			return err
		},
	}
	// crypto/tls fails a handshake that offers only protocols we do not name,
	// and a mesh certificate in the hands of curl or openssl is welcome.
	withALPN := c.Clone()
	withALPN.NextProtos = meshProtos(trunks)
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		noteOffer(h)
		if slices.Contains(h.SupportedProtos, alpnIstio) { // who offers trunks offers this too
			return withALPN, nil
		}
		return nil, nil
	}
	return c
}

func certificate(id Identity) (*tls.Certificate, error) {
	c, err := id.Certificate()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoCertificate, err)
	}
	return c, nil
}

// peerIdentity is the identity of a peer that verifyPeer accepted during the
// handshake.
func peerIdentity(cs *tls.ConnectionState) (spiffeid.ID, error) {
	if len(cs.PeerCertificates) == 0 {
		return spiffeid.ID{}, errNotPresented
	}
	return svidID(cs.PeerCertificates[0])
}
