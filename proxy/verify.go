package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var (
	errNotPresented = errors.New("the peer presented no certificate")
	errNoRoots      = errors.New("the proxy has no roots yet")
)

// verifyPeer checks that the certificates of a handshake are a valid X.509-SVID
// under roots, and returns its identity. It is called from VerifyConnection,
// the one hook that crypto/tls calls for resumed sessions too.
func verifyPeer(cs *tls.ConnectionState, by Identity, use x509.ExtKeyUsage, now time.Time) (spiffeid.ID, error) {
	if len(cs.PeerCertificates) == 0 {
		return spiffeid.ID{}, errNotPresented
	}
	roots := by.Roots()
	if roots == nil {
		return spiffeid.ID{}, errNoRoots
	}
	leaf := cs.PeerCertificates[0]
	id, err := svidID(leaf)
	if err != nil {
		return spiffeid.ID{}, err
	}
	if remembered(by).holds(leaf, roots, use, now) {
		return id, nil
	}
	when, err := verifyChain(cs.PeerCertificates, roots, use, now)
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("certificate of %s: %w", id, err)
	}
	remembered(by).add(leaf, roots, use, when)
	return id, nil
}

// verifyChain returns when the chain that was found is valid.
func verifyChain(chain []*x509.Certificate, roots *x509.CertPool, use x509.ExtKeyUsage, now time.Time) (when span, err error) {
	opts := x509.VerifyOptions{
		Roots:         roots,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{use},
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	found, err := chain[0].Verify(opts)
	if err != nil {
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired && now.Before(chain[0].NotBefore) {
			// crypto/x509 says "expired or not yet valid"; a clock that is
			// behind is another repair than a certificate that was not renewed.
			return when, &notYetValidError{from: chain[0].NotBefore, now: now, err: err}
		}
		return when, err
	}
	for _, c := range found {
		if v := validity(c); v.until.After(when.until) {
			when = v
		}
	}
	return when, nil
}

// validity is when all certificates of a chain are valid.
func validity(chain []*x509.Certificate) span {
	v := span{chain[0].NotBefore, chain[0].NotAfter}
	for _, c := range chain[1:] {
		if c.NotBefore.After(v.from) {
			v.from = c.NotBefore
		}
		if c.NotAfter.Before(v.until) {
			v.until = c.NotAfter
		}
	}
	return v
}

// notYetValidError is a certificate of the future.
type notYetValidError struct {
	from, now time.Time
	err       error
}

func (e *notYetValidError) Error() string {
	return fmt.Sprintf("not valid before %s, and it is %s here: check the clocks: %v",
		e.from.UTC().Format(time.RFC3339), e.now.UTC().Format(time.RFC3339), e.err)
}

func (e *notYetValidError) Unwrap() error { return e.err }

// svidError is a certificate that is no X.509-SVID, whoever signed it.
type svidError struct{ error }

func (e *svidError) Unwrap() error { return e.error }

func notSVID(format string, args ...any) error { return &svidError{fmt.Errorf(format, args...)} }

// svidID is the identity in a leaf, by the rules of the X.509-SVID standard
// (sections 2 to 4): exactly one URI SAN, strictly parsed, and not a CA.
func svidID(leaf *x509.Certificate) (spiffeid.ID, error) {
	if n := len(leaf.URIs); n != 1 {
		return spiffeid.ID{}, notSVID("the peer's certificate has %d URI names, an X.509-SVID has one", n)
	}
	id, err := spiffeid.FromURI(leaf.URIs[0])
	if err != nil {
		return spiffeid.ID{}, notSVID("the peer's certificate names %q: %w", leaf.URIs[0], err)
	}
	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return spiffeid.ID{}, notSVID("the peer's certificate for %s may sign others: not a leaf", id)
	}
	return id, nil
}
