package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// MaxRequest is the largest certificate request, in bytes, that is looked at.
const MaxRequest = 16 << 10

// ParseRequest takes a PKCS #10 request (RFC 2986), DER or PEM, and returns its
// public key once the request's own signature proves that the asker holds the
// private one. Keys may be ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to
// 8192 bits.
func ParseRequest(b []byte) (crypto.PublicKey, error) {
	if len(b) > MaxRequest {
		return nil, fmt.Errorf("the certificate request is larger than %d bytes", MaxRequest)
	}
	if block, rest := pem.Decode(b); block != nil {
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return nil, fmt.Errorf("a PEM block of type %q is no certificate request", block.Type)
		}
		if next, _ := pem.Decode(rest); next != nil {
			return nil, errors.New("there is more than one certificate request")
		}
		b = block.Bytes
	}
	req, err := x509.ParseCertificateRequest(b)
	if err != nil {
		return nil, fmt.Errorf("parse the certificate request: %w", err)
	}
	// The key first: verifying with an enormous RSA key is work for us.
	if err := checkKey(req.PublicKey); err != nil {
		return nil, err
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request is not signed by its own key: %w", err)
	}
	return req.PublicKey, nil
}

func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return fmt.Errorf("keys on curve %s are not signed, P-256 and P-384 are", k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return fmt.Errorf("RSA keys of %d bits are not signed, those of 2048 to 8192 are", n)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("keys of type %T are not signed", key)
	}
	return nil
}
