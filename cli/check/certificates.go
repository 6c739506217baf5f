package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/cluster"
	"hasp/deploy"
)

// soon is when an authority's end is worth a word: a mesh with a new root needs
// time.
const soon = 30 * 24 * time.Hour

// askAuthority looks at the certificate that signs. Where another authority
// signs, no Secret of these is used and its end is not ours to see.
func (c *checker) askAuthority(ctx context.Context) Result {
	for _, name := range []string{cluster.GivenSecret, cluster.OwnSecret} {
		s, err := c.Client.CoreV1().Secrets(deploy.Namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if apierrors.IsForbidden(err) {
			return warn(err.Error(), "ask somebody who may read it")
		}
		if err != nil {
			return failed(err, "")
		}
		end, err := certificateEnd(s)
		if err != nil {
			return fail(fmt.Sprintf("Secret %s: %v", name, err), "see docs/certificates.md")
		}
		detail := fmt.Sprintf("Secret %s, until %s", name, end.UTC().Format(time.DateOnly))
		switch left := time.Until(end); {
		case left <= 0:
			return fail(detail, "no workload gets a certificate any more: replace the Secret; see docs/certificates.md")
		case left < soon && name == cluster.GivenSecret:
			return warn(detail, "replace the Secret in time; see docs/certificates.md")
		}
		return ok(detail)
	}
	return Result{}
}

// certificateEnd is when a Secret can sign no more; one whose key is another's
// cannot sign at all.
func certificateEnd(s *corev1.Secret) (time.Time, error) {
	text, key := s.Data["ca-cert.pem"], s.Data["ca-key.pem"]
	if len(text) == 0 {
		text, key = s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey] // cert-manager's layout
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return time.Time{}, errors.New("no certificate is in it")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, err
	}
	if _, err := tls.X509KeyPair(text, key); err != nil {
		return time.Time{}, fmt.Errorf("its key does not fit: %w", err)
	}
	return cert.NotAfter, nil
}

// rootsOf a namespace; empty when it has none.
func (c *checker) rootsOf(ctx context.Context, namespace string) (string, error) {
	m, err := c.Client.CoreV1().ConfigMaps(namespace).Get(ctx, cluster.RootsConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return m.Data[cluster.RootsKey], nil
}

func (c *checker) askRoots(ctx context.Context) Result {
	want, err := c.rootsOf(ctx, deploy.Namespace)
	if err != nil {
		return failed(err, "")
	}
	if want == "" {
		return fail("ConfigMap "+cluster.RootsConfigMap+" is not in "+deploy.Namespace, "the leader writes it: kubectl -n istio-system logs -l app=istiod")
	}
	maps, err := c.Client.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + cluster.RootsConfigMap})
	if err != nil {
		return failed(err, "")
	}
	have := map[string]string{}
	for _, m := range maps.Items {
		have[m.Namespace] = m.Data[cluster.RootsKey]
	}
	namespaces, err := c.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return failed(err, "")
	}
	var without []string
	for _, ns := range namespaces.Items {
		if ns.Status.Phase != corev1.NamespaceTerminating && have[ns.Name] != want {
			without = append(without, ns.Name)
		}
	}
	if len(without) > 0 {
		return fail("not, or other ones: "+listed(without), "sidecars there do not start; kubectl -n istio-system logs -l app=istiod")
	}
	return ok(fmt.Sprintf("%d namespaces", len(namespaces.Items)))
}

// askTrust: the caBundle of each webhook is the root the control plane shows.
func (c *checker) askTrust(ctx context.Context) Result {
	roots, err := c.rootsOf(ctx, deploy.Namespace)
	if err != nil {
		return failed(err, "")
	}
	want := [][]byte{[]byte(roots)}
	// Where another authority signs for the mesh, webhooks have one of their own.
	if s, err := c.Client.CoreV1().Secrets(deploy.Namespace).Get(ctx, cluster.WebhookSecret, metav1.GetOptions{}); err == nil {
		want = append(want, s.Data["root-cert.pem"])
	}
	var wrong []string
	look := func(webhook string, cc admissionregistrationv1.WebhookClientConfig) {
		for _, w := range want {
			if len(w) > 0 && bytes.Equal(bytes.TrimSpace(w), bytes.TrimSpace(cc.CABundle)) {
				return
			}
		}
		wrong = append(wrong, webhook)
	}
	validating, err := c.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, cluster.ValidatingWebhooks, metav1.GetOptions{})
	if err != nil {
		return failed(err, "without it bad objects are not refused; install again")
	}
	for _, w := range validating.Webhooks {
		look(w.Name, w.ClientConfig)
	}
	mutating, err := c.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, cluster.MutatingWebhooks, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) { // injection.enabled: false
		return failed(err, "")
	}
	for _, w := range mutating.Webhooks {
		look(w.Name, w.ClientConfig)
	}
	if len(wrong) > 0 {
		return fail("another caBundle is in "+listed(wrong), "the leader writes it: kubectl -n istio-system logs -l app=istiod")
	}
	return ok("")
}
