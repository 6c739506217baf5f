package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"hasp/mesh"
	"hasp/policy/judge"
)

// fileClient is TLS to a server outside the mesh, or to one with certificates
// of its own: modes SIMPLE and MUTUAL of a DestinationRule.
func (p *Proxy) fileClient(c *cluster) (*upstreamTLS, error) {
	config := &tls.Config{
		ServerName: c.TLS.SNI,
		MinVersion: tls.VersionTLS12,
		// The names to check are not always the server name: verifyServer does.
		InsecureSkipVerify: true,
	}
	if config.ServerName == "" {
		config.ServerName = c.Hostname
	}
	u := &upstreamTLS{config: config, security: mesh.SimpleTLS, expected: c.TLS.SubjectAltNames}
	if len(u.expected) == 0 {
		u.expected = []string{config.ServerName}
	}
	if c.TLS.Mode == mesh.ClientMutual {
		cert, err := p.files.keyPair(c.TLS.ClientCertificate, c.TLS.PrivateKey)
		if err != nil {
			return nil, fmt.Errorf("client certificate of %s: %w", judge.Demand("MUTUAL", c.TLS.Origin), err)
		}
		config.Certificates = []tls.Certificate{*cert}
		u.security = mesh.MutualTLS
	}
	if c.TLS.InsecureSkipVerify {
		return u, nil
	}
	var roots *x509.CertPool // nil: the system's
	if c.TLS.CACertificates != "" {
		var err error
		if roots, err = p.files.pool(c.TLS.CACertificates); err != nil {
			return nil, fmt.Errorf("caCertificates of %s: %w", judge.Demand(string(c.TLS.Mode), c.TLS.Origin), err)
		}
	}
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		return verifyServer(&cs, roots, c.TLS.SubjectAltNames, config.ServerName, p.cfg.Now())
	}
	return u, nil
}

// verifyServer checks a server's chain, and its name: one of names if there are
// any (Envoy's exact match of subject alternative names), else serverName.
func verifyServer(cs *tls.ConnectionState, roots *x509.CertPool, names []string, serverName string, now time.Time) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the server presented no certificate")
	}
	leaf := cs.PeerCertificates[0]
	if _, err := verifyChain(cs.PeerCertificates, roots, x509.ExtKeyUsageServerAuth, now); err != nil {
		return err
	}
	if len(names) == 0 {
		return leaf.VerifyHostname(serverName)
	}
	have := slices.Clone(leaf.DNSNames)
	for _, u := range leaf.URIs {
		have = append(have, u.String())
	}
	for _, ip := range leaf.IPAddresses {
		have = append(have, ip.String())
	}
	for _, n := range names {
		if slices.Contains(have, n) {
			return nil
		}
	}
	return &nameError{have: have, want: names}
}

// nameError is a server whose certificate has none of the names of a rule.
type nameError struct{ have, want []string }

func (e *nameError) Error() string {
	return fmt.Sprintf("the server's certificate is for %q, none of %q", e.have, e.want)
}

// maxTLSFile bounds a certificate file that is read.
const maxTLSFile = 1 << 20

// fileCache keeps what was made of files until they change.
type fileCache struct {
	mu    sync.Mutex
	pools map[string]cached[*x509.CertPool]
	pairs map[[2]string]cached[*tls.Certificate]
}

type cached[T any] struct {
	stamp string
	value T
}

func newFileCache() *fileCache {
	return &fileCache{pools: make(map[string]cached[*x509.CertPool]), pairs: make(map[[2]string]cached[*tls.Certificate])}
}

// maxCachedFiles bounds the cache; past it, files are read again each time.
const maxCachedFiles = 256

func (c *fileCache) pool(file string) (*x509.CertPool, error) {
	stamp, err := stampOf(file)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.pools[file]; ok && have.stamp == stamp {
		return have.value, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	if len(c.pools) < maxCachedFiles {
		c.pools[file] = cached[*x509.CertPool]{stamp, pool}
	}
	return pool, nil
}

func (c *fileCache) keyPair(certFile, keyFile string) (*tls.Certificate, error) {
	certStamp, err := stampOf(certFile)
	if err != nil {
		return nil, err
	}
	keyStamp, err := stampOf(keyFile)
	if err != nil {
		return nil, err
	}
	stamp := certStamp + " " + keyStamp
	c.mu.Lock()
	defer c.mu.Unlock()
	key := [2]string{certFile, keyFile}
	if have, ok := c.pairs[key]; ok && have.stamp == stamp {
		return have.value, nil
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	if len(c.pairs) < maxCachedFiles {
		c.pairs[key] = cached[*tls.Certificate]{stamp, &cert}
	}
	return &cert, nil
}

// stampOf changes when the file does.
func stampOf(file string) (string, error) {
	st, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() || st.Size() > maxTLSFile {
		return "", fmt.Errorf("%s is not a file of at most %d bytes", file, maxTLSFile)
	}
	return fmt.Sprint(st.ModTime().UnixNano(), st.Size()), nil
}
