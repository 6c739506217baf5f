package cluster

import (
	"bytes"
	"slices"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	corev1 "k8s.io/api/core/v1"

	"hasp/ca"
)

var td = spiffeid.RequireTrustDomainFromString("cluster.local")

func made(t *testing.T) ca.Files {
	t.Helper()
	files, _, err := ca.Complete(ca.Config{TrustDomain: td}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The forms of Secret that sign: Istio's cacerts, cert-manager's, and what an
// Istio before us made of one self-signed certificate.
func TestSecretsThatSign(t *testing.T) {
	files := made(t)
	chain := bytes.Join([][]byte{files[caCert]}, nil)
	for name, data := range map[string]map[string][]byte{
		"cacerts":      {caCert: files[caCert], caKey: files[caKey], rootCert: files[rootCert], "cert-chain.pem": files["cert-chain.pem"]},
		"cert-manager": {"tls.crt": chain, "tls.key": files[caKey], "ca.crt": files[rootCert]},
		"istio's own":  {caCert: files[rootCert], caKey: files["root-key.pem"], rootCert: nil, "cert-chain.pem": {}, "key.pem": {}},
	} {
		c, err := ca.Open(ca.Config{TrustDomain: td}, filesOf(&corev1.Secret{Data: data}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(c.Bundle(), files[rootCert]) {
			t.Errorf("%s: the roots are another's", name)
		}
	}
	// An intermediate does not become a root by being alone.
	_, err := ca.Open(ca.Config{TrustDomain: td}, filesOf(&corev1.Secret{Data: map[string][]byte{caCert: files[caCert], caKey: files[caKey]}}))
	if want := "ca: read the authority: there is no root-cert.pem"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// The rules of the ServiceAccount stay as narrow as they are.
func TestPermissionsAreNarrow(t *testing.T) {
	g := Permissions()
	for _, r := range g.Cluster {
		for _, list := range [][]string{r.APIGroups, r.Resources, r.Verbs} {
			if slices.Contains(list, "*") {
				t.Errorf("a wildcard: %v", r)
			}
		}
		if slices.Contains(r.Resources, "secrets") {
			t.Errorf("Secrets of all namespaces: %v", r)
		}
		if slices.Contains(r.Resources, "configmaps") && len(r.ResourceNames) == 0 && !slices.Equal(r.Verbs, []string{"create"}) {
			t.Errorf("all ConfigMaps: %v", r)
		}
	}
}
