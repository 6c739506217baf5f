package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"hasp/mesh"
)

// hand is what was shown in a handshake, for the post-mortem of a connection
// that was refused during it or after.
type hand struct {
	expected  []string // identities, one of which the server must have
	own       *x509.Certificate
	presented *x509.Certificate
	sni       string
	offered   []string
}

// shown notes a handshake, complete or not. What it returns is shared.
func (p *Proxy) shown(r *row, h *hand, cs *tls.ConnectionState) *hand {
	if len(cs.PeerCertificates) > 0 {
		h.presented = cs.PeerCertificates[0]
	}
	h = p.certs.hand(h)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hand = h
	return h
}

// said tells whether there was a handshake, or something else went wrong that
// has been noted.
func (r *row) said() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hand != nil || r.facts.read(r.id).Failure != nil
}

// offerKey is of the context value where a server's hook leaves what the client
// offered.
type offerKey struct{}

// withOffer is a context for a server's handshake that fills offered.
func withOffer(ctx context.Context, offered *[]string) context.Context {
	return context.WithValue(ctx, offerKey{}, offered)
}

func noteOffer(h *tls.ClientHelloInfo) {
	if offered, ok := h.Context().Value(offerKey{}).(*[]string); ok {
		*offered = h.SupportedProtos
	}
}

// refuse ends the life of a connection that did not come about. The first
// reason stands, as the first cause does.
func (p *Proxy) refuse(r *row, stage string, err error) {
	r.refuse(err.Error())
	r.mu.Lock()
	failed := r.facts.read(r.id).Failure != nil
	r.mu.Unlock()
	if !failed {
		p.fail(r, stage, err)
	}
}

// fail notes how a connection, or an attempt at one, did not come about.
func (p *Proxy) fail(r *row, stage string, err error) {
	reason, byPeer := reasonOf(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.cut { // else it failed because it was
		p.failLocked(r, mesh.Failure{Stage: stage, Reason: reason, ByPeer: byPeer, Error: err.Error()})
	}
}

func (p *Proxy) failLocked(r *row, f mesh.Failure) {
	f.At = p.cfg.Now()
	f.Error = cutTo(f.Error, maxSentence)
	if s := p.settings.Load(); s != nil {
		f.TrustDomain = s.config.TrustDomain
	}
	if h := r.hand; h != nil {
		f.Expected = h.expected
		f.Presented = certificateFacts(h.presented)
		f.Own = certificateFacts(h.own)
		f.SNI, f.Offered = word(h.sni), words(h.offered)
	}
	r.write(func(to *mesh.Connection) { to.Failure = &f })
}

// failPolicy notes, at its end, how a connection was refused that settle asked
// about. One that lived before a policy ended it has no failure.
func (p *Proxy) failPolicy(r *row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.settled || r.series != nil {
		return
	}
	f := r.facts.read(r.id)
	if f.Allowed || f.Failure != nil {
		return
	}
	p.failLocked(r, mesh.Failure{Stage: mesh.StagePolicy, Reason: policyReason(&f), Error: f.Why})
}

// policyReason sorts what settle refused.
func policyReason(f *mesh.Connection) string {
	switch {
	case f.Rule.Kind == "AuthorizationPolicy":
		return mesh.ReasonDenied
	case f.Security == mesh.MutualTLS && f.Direction == mesh.InboundDir:
		return mesh.ReasonOtherTrustDomain
	case f.Security == mesh.MutualTLS:
		return mesh.ReasonWrongIdentity
	case f.Security == mesh.SimpleTLS && f.Direction == mesh.InboundDir:
		return mesh.ReasonNoCertificate
	case f.Cluster == passthrough:
		return mesh.ReasonNoService
	case f.Security == mesh.Plaintext, f.Security == mesh.PassedTLS:
		return mesh.ReasonPlaintext
	}
	return mesh.ReasonOther
}

// failAnswer notes that a connection which was carried to a server ended before
// the server's first byte.
func (p *Proxy) failAnswer(r *row, err error) {
	reason, byPeer := reasonOf(err)
	if !byPeer || r.meter.Sent.Load() > 0 {
		return
	}
	stage := mesh.StageAnswer
	if reason == mesh.ReasonAlert { // a server of TLS 1.3 reads the client's certificate last
		stage = mesh.StageHandshake
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.facts.read(r.id).Direction == mesh.OutboundDir && !r.cut && !r.ended {
		p.failLocked(r, mesh.Failure{Stage: stage, Reason: reason, ByPeer: true, Error: err.Error()})
	}
}

// reasonOf sorts what ended a connection into a fixed set of words. byPeer says
// that the other end gave up without a word why.
func reasonOf(err error) (reason string, byPeer bool) {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var notYet *notYetValidError
	var svid *svidError
	var wrong *identityError
	var name *nameError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	var op *net.OpError
	var ne net.Error
	switch {
	case errors.As(err, &wrong):
		if wrong.elsewhere() {
			return mesh.ReasonOtherTrustDomain, false
		}
		return mesh.ReasonWrongIdentity, false
	case errors.As(err, &name), errors.As(err, &host):
		return mesh.ReasonWrongIdentity, false
	case errors.As(err, &unknown):
		return mesh.ReasonUnknownAuthority, false
	case errors.As(err, &notYet):
		return mesh.ReasonNotYetValid, false
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return mesh.ReasonExpired, false
	case errors.As(err, &invalid), errors.As(err, &svid):
		return mesh.ReasonInvalidCertificate, false
	case errors.As(err, &record), errors.Is(err, errPlaintext):
		return mesh.ReasonPlaintext, false
	case errors.Is(err, errNoCertificate), errors.Is(err, errNoRoots):
		return mesh.ReasonNoOwnCertificate, false
	case errors.Is(err, errNotPresented), strings.Contains(err.Error(), "tls: client didn't provide a certificate"): // crypto/tls has no type for it
		return mesh.ReasonNoCertificate, false
	case errors.Is(err, errNoEndpoint):
		return mesh.ReasonNoEndpoint, false
	case errors.Is(err, errNobodyListens):
		return mesh.ReasonNotListening, false
	case errors.Is(err, errNoConfiguration), errors.Is(err, errUnanswered):
		return mesh.ReasonNoConfiguration, false
	case errors.As(err, &op) && op.Op == "remote error": // as crypto/tls calls an alert
		return mesh.ReasonAlert, true
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return mesh.ReasonTimeout, false
	}
	return reasonOfErrno(err)
}

// reasonOfErrno is reasonOf for what the kernel says.
func reasonOfErrno(err error) (reason string, byPeer bool) {
	var lookup *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return mesh.ReasonRefused, false
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return mesh.ReasonReset, true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errNoAnswer):
		return mesh.ReasonClosed, true
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.As(err, &lookup):
		return mesh.ReasonUnreachable, false
	}
	return mesh.ReasonOther, false
}

// certificateFacts is nil for no certificate. What strangers wrote in theirs is
// cut short: the table remembers it.
func certificateFacts(x *x509.Certificate) *mesh.Certificate {
	if x == nil {
		return nil
	}
	return &mesh.Certificate{
		Identity: word(names(x)), Issuer: word(x.Issuer.String()), Serial: word(x.SerialNumber.Text(16)),
		NotBefore: x.NotBefore, NotAfter: x.NotAfter,
	}
}

// names are who a certificate says it is of: its URI, a SPIFFE ID in the mesh,
// or whatever else it has.
func names(x *x509.Certificate) string {
	var all []string
	for _, u := range x.URIs {
		all = append(all, u.String())
	}
	all = append(all, x.DNSNames...)
	for _, ip := range x.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return x.Subject.String()
	}
	return strings.Join(all, " ")
}
