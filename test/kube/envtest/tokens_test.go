package envtest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	securityapi "istio.io/api/security/v1alpha1"
	authentication "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/cluster"
)

// token of a namespace's ServiceAccount default, for an audience, bound to a pod
// unless that is nil.
func token(t *testing.T, namespace, audience string, pod *corev1.Pod) string {
	t.Helper()
	req := &authentication.TokenRequest{Spec: authentication.TokenRequestSpec{Audiences: []string{audience}}}
	if pod != nil {
		req.Spec.BoundObjectRef = &authentication.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	}
	r, err := env.client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "default", req, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Status.Token
}

// meshed is a pod with a sidecar, which nothing runs here.
func meshed(t *testing.T, namespace, name string) *corev1.Pod {
	t.Helper()
	p, err := env.client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			ServiceAccountName: "default",
			InitContainers:     []corev1.Container{{Name: "istio-proxy", Image: "proxy"}},
			Containers:         []corev1.Container{{Name: "app", Image: "app"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask for a certificate as the proxy of a workload does.
func (r *replica) ask(t *testing.T, token, workload string) (*x509.Certificate, error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret(t, cluster.OwnSecret).Data["root-cert.pem"])
	conn, err := grpc.NewClient(r.cfg.Listeners.XDS.Addr().String(),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "istiod.istio-system.svc"})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	resp, err := securityapi.NewIstioCertificateServiceClient(conn).CreateCertificate(
		metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token),
		&securityapi.IstioCertificateRequest{
			Csr:      string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
			Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{"WorkloadName": structpb.NewStringValue(workload)}},
		})
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(resp.CertChain[0]))
	return x509.ParseCertificate(block.Bytes)
}

// A token is good for the pod that it is bound to, for our audience, while the
// pod is there.
func TestTokens(t *testing.T) {
	need(t)
	forget(t)
	a := begin(t, "a", nil).ready(t)
	namespace(t, "shop", nil)
	one, two := meshed(t, "shop", "boards-1"), meshed(t, "shop", "boards-2")
	gone := meshed(t, "shop", "gone")
	ofGone := token(t, "shop", cluster.TokenAudience, gone)
	now := int64(0)
	if err := env.client.CoreV1().Pods("shop").Delete(t.Context(), "gone", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}

	cert, err := a.ask(t, token(t, "shop", cluster.TokenAudience, one), "shop/boards-1")
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.URIs) != 1 || cert.URIs[0].String() != "spiffe://cluster.local/ns/shop/sa/default" {
		t.Errorf("the certificate is for %v", cert.URIs)
	}
	for _, tt := range []struct {
		name, token string
		want        string
	}{
		{"another pod's", token(t, "shop", cluster.TokenAudience, two), "the token is bound to the pod shop/boards-2, not to shop/boards-1"},
		{"another audience's", token(t, "shop", "somebody", one), "the API server does not accept the token: [invalid bearer token, token audiences [\"somebody\"] is invalid for the target audiences [\"istio-ca\"]]"},
		{"no pod's", token(t, "shop", cluster.TokenAudience, nil), "the token is not bound to a pod"},
		{"a pod's that is gone", ofGone, "the API server does not accept the token: [invalid bearer token, service account token has been invalidated]"},
		{"a forged one", "a.b.c", "the API server does not accept the token: invalid bearer token"},
	} {
		_, err := a.ask(t, tt.token, "shop/boards-1")
		if status.Code(err) != codes.Unauthenticated || status.Convert(err).Message() != tt.want {
			t.Errorf("%s: got %v\nwant %s", tt.name, err, tt.want)
		}
	}
}

// A good token of a pod outside the mesh is no key to it.
func TestTokenOutsideTheMesh(t *testing.T) {
	need(t)
	forget(t)
	a := begin(t, "a", nil).ready(t)
	namespace(t, "outside", nil)
	p, err := env.client.CoreV1().Pods("outside").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "plain"},
		Spec:       corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.ask(t, token(t, "outside", cluster.TokenAudience, p), "outside/plain")
	const want = "no workload of the mesh has the identity spiffe://cluster.local/ns/outside/sa/default"
	if status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}
