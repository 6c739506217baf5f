package proof

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// ReportVersion is that of the form of Report.
const ReportVersion = 1

// purpose is signed with the report, so that the signature is good for nothing
// else.
const purpose = "hasp verify report, version 1\n"

// MaxReport bounds what is read back, in bytes.
const MaxReport = 64 << 20

// Signed is a report with the signature of the control plane that made it, by
// the key of its certificate of the mesh.
type Signed struct {
	Report json.RawMessage `json:"report"` // what is signed is its compact form
	// Signature is ECDSA with SHA-256, in ASN.1.
	Signature []byte `json:"signature"`
	// Chain is the signer's certificate and what leads to a root; Roots are those
	// of the mesh. Both are PEM.
	Chain string `json:"chain"`
	Roots string `json:"roots"`
}

// Sign a report as the owner of a certificate.
func Sign(r *Report, cert *tls.Certificate, roots []byte) (*Signed, error) {
	key, ok := cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("proof: only the key of an ECDSA certificate signs a report")
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("proof: write the report: %w", err)
	}
	digest, err := digestOf(raw)
	if err != nil {
		return nil, err
	}
	s := &Signed{Report: raw, Roots: string(roots)}
	if s.Signature, err = key.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
		return nil, fmt.Errorf("proof: sign the report: %w", err)
	}
	for _, der := range cert.Certificate {
		s.Chain += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return s, nil
}

func digestOf(report []byte) ([]byte, error) {
	b := bytes.NewBufferString(purpose)
	if err := json.Compact(b, report); err != nil {
		return nil, fmt.Errorf("proof: the report is not JSON: %w", err)
	}
	d := sha256.Sum256(b.Bytes())
	return d[:], nil
}

// Checked is a report whose signature is good, and whom that rests on.
type Checked struct {
	Report
	Signer string `json:"signer"` // SPIFFE ID
	// Roots are the SHA-256 fingerprints of the roots that were believed.
	Roots []string `json:"roots"`
}

// Check the signature. The signer must be the control plane of the trust domain
// that the report is about, by a certificate that was valid when the report was
// made and leads to one of the roots. Roots in PEM that the caller has from
// elsewhere are better than nil, which believes those in the report: then
// somebody must compare the fingerprints.
func (s *Signed) Check(roots []byte, signers func(trustDomain string) []string) (*Checked, error) {
	var c Checked
	if err := json.Unmarshal(s.Report, &c.Report); err != nil {
		return nil, fmt.Errorf("proof: read the report: %w", err)
	}
	if c.Version != ReportVersion {
		return nil, fmt.Errorf("proof: the report is of version %d, and this hasp reads version %d", c.Version, ReportVersion)
	}
	if roots == nil {
		roots = []byte(s.Roots)
	}
	chain, err := certificates([]byte(s.Chain))
	if err != nil {
		return nil, fmt.Errorf("proof: the signer's certificate: %w", err)
	}
	trusted, err := certificates(roots)
	if err != nil {
		return nil, fmt.Errorf("proof: the roots: %w", err)
	}
	leaf, between, anchors := chain[0], x509.NewCertPool(), x509.NewCertPool()
	for _, up := range chain[1:] {
		between.AddCert(up)
	}
	for _, root := range trusted {
		anchors.AddCert(root)
		sum := sha256.Sum256(root.Raw)
		c.Roots = append(c.Roots, hex.EncodeToString(sum[:]))
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: anchors, Intermediates: between, CurrentTime: c.At, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("proof: the signer's certificate: %w", err)
	}
	if len(leaf.URIs) != 1 {
		return nil, errors.New("proof: the signer's certificate names no identity")
	}
	c.Signer = leaf.URIs[0].String()
	if !slices.Contains(signers(c.TrustDomain), c.Signer) {
		return nil, fmt.Errorf("proof: it is signed by %s, which is not the control plane of %q", c.Signer, c.TrustDomain)
	}
	digest, err := digestOf(s.Report)
	if err != nil {
		return nil, err
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(key, digest, s.Signature) {
		return nil, errors.New("proof: the signature does not match: the report was changed after it was signed")
	}
	return &c, nil
}

// maxCertificates bounds a chain that is read.
const maxCertificates = 64

func certificates(data []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for len(out) < maxCertificates {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return out, nil
}
