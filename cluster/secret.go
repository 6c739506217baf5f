package cluster

import (
	"crypto/x509"
	"encoding/pem"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/ca"
)

// secretType is what Istio gives the Secret of an authority that it made.
const secretType = "istio.io/ca-root"

// The names of an authority's files that this package speaks of.
const (
	caCert   = "ca-cert.pem"
	caKey    = "ca-key.pem"
	rootCert = "root-cert.pem"
)

// filesOf are a Secret's files in the layout of cacerts. Two more are
// understood, as Istio does: cert-manager's (tls.crt, tls.key, ca.crt), and an
// authority that Istio made of one self-signed certificate, without saying that
// it is the root.
func filesOf(s *corev1.Secret) ca.Files {
	files := ca.Files{}
	maps.Copy(files, s.Data)
	if len(files[caCert]) == 0 && len(files[corev1.TLSCertKey]) > 0 {
		// tls.crt is a chain that starts with the signing certificate.
		files[caCert], files["cert-chain.pem"] = files[corev1.TLSCertKey], files[corev1.TLSCertKey]
		files[caKey], files[rootCert] = files[corev1.TLSPrivateKeyKey], files["ca.crt"]
	}
	if len(files[rootCert]) == 0 && selfSigned(files[caCert]) {
		files[rootCert] = files[caCert]
	}
	return files
}

func selfSigned(b []byte) bool {
	block, _ := pem.Decode(b)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	return err == nil && cert.CheckSignatureFrom(cert) == nil
}

func newSecret(name string, files ca.Files) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name, Labels: ours()},
		Type:       secretType, Data: files,
	}
}

// reference is for events.
func reference(s *corev1.Secret) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Secret", Namespace: s.Namespace, Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion}
}

// ours marks the objects that the control plane makes, so that they can be
// found when it is uninstalled.
func ours() map[string]string {
	return map[string]string{"app.kubernetes.io/managed-by": "hasp", "app.kubernetes.io/part-of": "hasp", "istio.io/config": "true"}
}
