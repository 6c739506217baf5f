package cluster

import (
	"errors"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/ca/csr"
)

// External is an authority that is not ours: cert-manager's istio-csr, or
// whatever else speaks Istio's IstioCertificateService. The control plane signs
// nothing for the mesh then; it gets its own certificate from there as the
// proxies do, by its ServiceAccount token.
type External struct {
	Address   string // HOST:PORT
	Name      string // the DNS name it must present
	TokenFile string // a projected token that the authority accepts
	RootsFile string // PEM: what verifies the authority, and the mesh's peers
}

// source asks it for the control plane's certificate.
func (e *External) source(id spiffeid.ID, cfg Config) (*csr.Source, error) {
	if e.Address == "" || e.Name == "" || e.TokenFile == "" || e.RootsFile == "" {
		return nil, errors.New("a foreign authority needs an address, the name it presents, and files for token and roots")
	}
	return csr.NewSource(csr.SourceConfig{
		Target: e.Address, ServerID: id, ID: id, Workload: Namespace + "/" + cfg.Pod,
		CA: e.Address, CAName: e.Name, TokenFile: e.TokenFile, RootsFile: e.RootsFile,
		Lifetime: cfg.CertLifetime, Log: cfg.Log,
	})
}
