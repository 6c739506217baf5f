package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"hasp/mesh"
)

// wrap makes an accepted connection what the port speaks. The HTTP server runs
// the handshake.
func (g *gatewaySettings) wrap(c net.Conn) net.Conn {
	if g.protocol != mesh.HTTPS {
		return c
	}
	return tls.Server(c, &tls.Config{
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if s := g.server(h.ServerName); s != nil {
				return s.tls, s.tlsErr
			}
			return nil, fmt.Errorf("no gateway server for %q", h.ServerName)
		},
	})
}

// gatewayTLS is the server half of an HTTPS server: its certificate from a
// Secret, or the gateway's own SVID.
func gatewayTLS(id Identity, now func() time.Time, srv *mesh.Server, secrets []mesh.Secret) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		// A resumed session would outlive a change of Secret or of Mutual.
		SessionTicketsDisabled: true,
	}
	secret, err := findSecret(secrets, srv.Secret)
	switch {
	case srv.Secret == "default":
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate(id) }
	case err != nil:
		return nil, err
	default:
		cert, err := tls.X509KeyPair(secret.Cert, secret.Key)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", srv.Secret, err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	if !srv.Mutual {
		return c, nil
	}
	if srv.Secret == "default" {
		// The mesh's own certificate asks for the mesh's own clients.
		c.ClientAuth = tls.RequireAnyClientCert
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			_, err := verifyPeer(&cs, id, x509.ExtKeyUsageClientAuth, now())
			return err
		}
		return c, nil
	}
	if len(secret.CA) == 0 {
		return nil, fmt.Errorf("secret %s: mode MUTUAL needs its ca.crt", srv.Secret)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(secret.CA) {
		return nil, fmt.Errorf("secret %s: its ca.crt holds no certificate", srv.Secret)
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return c, nil
}

func findSecret(secrets []mesh.Secret, name string) (mesh.Secret, error) {
	for _, s := range secrets {
		if s.Name == name {
			return s, nil
		}
	}
	if name == "" {
		return mesh.Secret{}, errors.New("an HTTPS server names no secret")
	}
	return mesh.Secret{}, fmt.Errorf("secret %s is not there", name)
}
