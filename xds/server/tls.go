package server

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Credentials are the control plane's own. They may change at any time.
type Credentials interface {
	Certificate() (*tls.Certificate, error)
	Roots() *x509.CertPool
}

// maxRequest bounds a request, in bytes: a proxy that reconnects names all it
// has.
const maxRequest = 16 << 20

// TLS is the server side that xDS and the certificate service share: TLS 1.2 at
// least, because foreign clients may need it; a client certificate is verified
// when one is given, and the services decide whether one is needed. Sessions
// are not resumed, so that every connection is verified against the roots of
// its day.
func TLS(c Credentials) *tls.Config {
	base := tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{"h2"},
		ClientAuth:             tls.VerifyClientCertIfGiven,
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Certificate() },
	}
	front := base.Clone()
	front.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		cfg := base.Clone()
		cfg.ClientCAs = c.Roots()
		return cfg, nil
	}
	return front
}

// Options are the settings of a gRPC server for both services.
func Options(c Credentials) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(credentials.NewTLS(TLS(c))),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxConcurrentStreams(100), // of one connection
		// Nearly all connections are idle nearly always.
		grpc.ReadBufferSize(8 << 10),
		grpc.SharedWriteBuffer(true),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
}
