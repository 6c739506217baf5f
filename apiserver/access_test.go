package apiserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// external is the kubeconfig's way in: over TCP, as a user's own kubectl goes.
func external(t *testing.T) *rest.Config {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", shared.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func get(t *testing.T, tc *tls.Config, url, accept string) (int, []byte, error) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: tc}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

// Who has no certificate of ours gets nothing, not even health.
func TestAnonymous(t *testing.T) {
	cfg := external(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cfg.CAData)
	for _, path := range []string{"/api/v1/secrets", "/readyz", "/version", "/apis"} {
		code, _, err := get(t, &tls.Config{RootCAs: roots}, cfg.Host+path, "*/*")
		if err != nil || code != http.StatusUnauthorized {
			t.Errorf("GET %s without a certificate: %d, %v; want 401", path, code, err)
		}
	}
	if _, _, err := get(t, &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, cfg.Host+"/readyz", "*/*"); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

// A certificate says who somebody is; only administrators may do anything.
func TestClientCert(t *testing.T) {
	cert, key, err := shared.ClientCert("ada", "readers")
	if err != nil {
		t.Fatal(err)
	}
	cfg := external(t)
	cfg.CertData, cfg.KeyData = cert, key
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("ada lists Secrets: %v; want Forbidden", err)
	}
	me, err := client(t).AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if u := me.Status.UserInfo; u.Username != "admin" || !slices.Contains(u.Groups, "system:masters") {
		t.Errorf("the process's own client is %s of %v", u.Username, u.Groups)
	}
}

// Clients that do not know aggregated discovery find every group.
func TestOldDiscovery(t *testing.T) {
	cfg := external(t)
	tc, err := rest.TLSConfigFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, b, err := get(t, tc, cfg.Host+"/apis", "application/json")
	if err != nil {
		t.Fatal(err)
	}
	var l metav1.APIGroupList
	if err := json.Unmarshal(b, &l); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, g := range l.Groups {
		got[g.Name] = g.PreferredVersion.Version
	}
	for name, want := range map[string]string{"apps": "v1", "networking.istio.io": "v1", "security.istio.io": "v1", "authentication.istio.io": "v1alpha1", "apiextensions.k8s.io": "v1"} {
		if got[name] != want {
			t.Errorf("group %s has preferred version %q, want %q", name, got[name], want)
		}
	}
	for _, path := range []string{"/readyz", "/livez", "/openapi/v3/api/v1", "/openapi/v3/apis/apps/v1", "/openapi/v2"} {
		if code, _, err := get(t, tc, cfg.Host+path, "*/*"); err != nil || code != http.StatusOK {
			t.Errorf("GET %s: %d, %v", path, code, err)
		}
	}
}
