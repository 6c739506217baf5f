package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/mesh"
	"hasp/policy/judge"
	"hasp/proxy/relay"
)

// upstreamTLS is the client's half of a TLS connection to a cluster.
type upstreamTLS struct {
	config   *tls.Config
	security mesh.Security
	mesh     bool   // both ends are proxies of the mesh
	key      string // says how trunks are spoken to, see trunkKey
	expected []string
}

// handshake makes sock a TLS side, with share one that the relay can take over
// from crypto/tls. The state is also of one that failed.
func (u *upstreamTLS) handshake(ctx context.Context, sock *relay.Socket, share bool) (*relay.Side, *tls.ConnectionState, error) {
	config := u.config
	if share {
		config = sock.ForClient(config)
	}
	conn := tls.Client(sock, config)
	err := conn.HandshakeContext(ctx)
	cs := conn.ConnectionState()
	if err != nil {
		return nil, &cs, err
	}
	return relay.TLS(conn, sock, u.mesh), &cs, nil
}

// hand is what the client shows and wants to be shown.
func (u *upstreamTLS) hand(id Identity) *hand {
	h := &hand{expected: u.expected, sni: u.config.ServerName, offered: u.config.NextProtos}
	switch {
	case u.mesh:
		if own, err := id.Certificate(); err == nil { // else the handshake says so
			h.own = own.Leaf
		}
	case len(u.config.Certificates) > 0:
		h.own = u.config.Certificates[0].Leaf
	}
	return h
}

// tlsKey tells the TLS clients of a cluster apart.
type tlsKey struct {
	identity string
	trunks   bool
}

// clientTLS says how to speak to an endpoint of a cluster: nil for plaintext,
// with the reason. Who does not relay what it gets must not ask for trunks.
func (p *Proxy) clientTLS(s *settings, c *cluster, e *mesh.Endpoint, trunks bool) (u *upstreamTLS, why string, err error) {
	if s.own(e) {
		return nil, "the workload calls itself", nil
	}
	switch c.TLS.Mode {
	case mesh.ClientIstioMutual:
		u, err = p.meshClient(s, c, e, trunks)
		return u, "", err
	case mesh.ClientSimple, mesh.ClientMutual:
		u, err = p.fileClient(c)
		return u, "", err
	case mesh.ClientDisable:
		return nil, judge.Demand("DISABLE", c.TLS.Origin), nil
	}
	switch {
	case !c.TLS.Auto:
		return nil, "no rule asks for TLS and auto mTLS does not apply", nil
	case !e.Sidecar:
		return nil, "the server has no sidecar", nil
	}
	u, err = p.meshClient(s, c, e, trunks)
	return u, "", err
}

// meshClient is mutual TLS between proxies. It is made once for each identity
// behind a cluster.
func (p *Proxy) meshClient(s *settings, c *cluster, e *mesh.Endpoint, trunks bool) (*upstreamTLS, error) {
	key := tlsKey{trunks: trunks} // the cluster's identities hold for every endpoint
	if len(c.IDs) == 0 {
		key.identity = e.Identity
	}
	if u, ok := c.tls.Load(key); ok {
		return u.(*upstreamTLS), nil
	}
	ids := c.IDs
	if len(ids) == 0 {
		id, err := spiffeid.FromString(e.Identity)
		if err != nil {
			return nil, fmt.Errorf("nothing says which identity %s must present: %w", endpointAddr(e), err)
		}
		ids = []spiffeid.ID{id}
	}
	u, _ := c.tls.LoadOrStore(key, &upstreamTLS{
		config:   meshClientConfig(p.cfg.Identity, p.cfg.Now, s.minTLS, sni(c), ids, trunks),
		key:      strings.Join(append(idStrings(ids), sni(c), tls.VersionName(s.minTLS)), " "),
		security: mesh.MutualTLS,
		mesh:     true,
		expected: idStrings(ids),
	})
	return u.(*upstreamTLS), nil
}

func meshClientConfig(id Identity, now func() time.Time, minVersion uint16, serverName string, ids []spiffeid.ID, trunks bool) *tls.Config {
	return &tls.Config{
		ServerName:       serverName,
		NextProtos:       meshProtos(trunks),
		MinVersion:       minVersion,
		CurvePreferences: curves,
		CipherSuites:     suites12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return certificate(id)
		},
		// Names in the mesh are SPIFFE IDs, which crypto/tls does not check:
		// VerifyConnection does all of it, before our certificate is sent.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			got, err := verifyPeer(&cs, id, x509.ExtKeyUsageServerAuth, now())
			if err != nil {
				return err
			}
			for _, want := range ids {
				if got == want {
					return nil
				}
			}
			return &identityError{got: got, want: ids}
		},
	}
}

func idStrings(ids []spiffeid.ID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

// identityError is a server that is somebody else than the service's.
type identityError struct {
	got  spiffeid.ID
	want []spiffeid.ID
}

func (e *identityError) Error() string {
	if len(e.want) == 1 {
		return fmt.Sprintf("the server is %s, not %s", e.got, e.want[0])
	}
	return fmt.Sprintf("the server is %s, which is none of %v", e.got, e.want)
}

// elsewhere tells whether the server is not even of a trust domain where it was
// looked for.
func (e *identityError) elsewhere() bool {
	return !slices.ContainsFunc(e.want, func(id spiffeid.ID) bool { return e.got.MemberOf(id.TrustDomain()) })
}

// sni is the server name to send: the rule's, or Istio's name of the cluster.
func sni(c *cluster) string {
	if c.TLS.SNI != "" {
		return c.TLS.SNI
	}
	return fmt.Sprintf("outbound_.%d_.%s_.%s", c.Port, c.Subset, c.Hostname)
}

// handshakeReason sorts a handshake's failure for the counter.
func handshakeReason(err error) string {
	reason, _ := reasonOf(err)
	return reason
}
