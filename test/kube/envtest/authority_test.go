package envtest_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/ca"
	"hasp/cluster"
)

var td = spiffeid.RequireTrustDomainFromString("cluster.local")

// forget the authorities of tests before.
func forget(t *testing.T) {
	t.Helper()
	for _, name := range []string{cluster.GivenSecret, cluster.OwnSecret, cluster.WebhookSecret} {
		err := env.client.CoreV1().Secrets(cluster.Namespace).Delete(t.Context(), name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
	}
}

func secret(t *testing.T, name string) *corev1.Secret {
	t.Helper()
	s, err := env.client.CoreV1().Secrets(cluster.Namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func files(t *testing.T, cfg ca.Config) ca.Files {
	t.Helper()
	cfg.TrustDomain = td
	f, _, err := ca.Complete(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// due is an authority whose intermediate is past half its life.
func due(t *testing.T) ca.Files {
	t.Helper()
	return files(t, ca.Config{IntermediateTTL: time.Hour, Now: func() time.Time { return time.Now().Add(-40 * time.Minute) }})
}

func keep(t *testing.T, name string, f ca.Files) {
	t.Helper()
	_, err := env.client.CoreV1().Secrets(cluster.Namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: f}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func replace(t *testing.T, name string, f ca.Files) {
	t.Helper()
	s := secret(t, name)
	s.Data = f
	if _, err := env.client.CoreV1().Secrets(cluster.Namespace).Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// certificate that a port presents to a client who knows these roots and looks
// for the name that the API server does.
func certificate(ln net.Listener, roots []byte) (*x509.Certificate, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", ln.Addr().String(),
		&tls.Config{RootCAs: pool, ServerName: "istiod.istio-system.svc", NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

// presents waits until both ports of a replica verify against the roots.
func (r *replica) presents(t *testing.T, roots []byte) {
	t.Helper()
	for _, ln := range []net.Listener{r.cfg.Listeners.XDS, r.cfg.Listeners.Webhook} {
		eventually(t, r.name+" has a certificate of this authority", func() (bool, error) {
			_, err := certificate(ln, roots)
			return err == nil, err
		})
	}
}

// Two replicas that start at once have one authority: one creates the Secret,
// the other takes what is there.
func TestReplicasShareAnAuthority(t *testing.T) {
	need(t)
	forget(t)
	a, b := begin(t, "a", nil), begin(t, "b", nil)
	a.ready(t)
	b.ready(t)
	s := secret(t, cluster.OwnSecret)
	for _, r := range []*replica{a, b} {
		r.presents(t, s.Data["root-cert.pem"])
		if got := r.status(t).Authority; got != "Secret istio-system/istio-ca-secret" {
			t.Errorf("%s signs by %s", r.name, got)
		}
	}
	cert, err := certificate(a.cfg.Listeners.XDS, s.Data["root-cert.pem"])
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.URIs) != 1 || cert.URIs[0].String() != "spiffe://cluster.local/ns/istio-system/sa/istiod" {
		t.Errorf("it is %v", cert.URIs)
	}
}

// The user's cacerts wins as soon as it is there, also over a running
// authority; one that cannot sign is refused where its owner sees it, and the
// last good goes on; deleting it changes nothing until a restart.
func TestGivenAuthority(t *testing.T) {
	need(t)
	forget(t)
	a, b := begin(t, "a", nil).ready(t), begin(t, "b", nil).ready(t)
	given := files(t, ca.Config{})
	delete(given, "root-key.pem")
	keep(t, cluster.GivenSecret, given)
	a.presents(t, given["root-cert.pem"])
	b.presents(t, given["root-cert.pem"])

	bad := ca.Files{}
	for n, v := range given {
		bad[n] = v
	}
	bad["ca-key.pem"] = files(t, ca.Config{})["ca-key.pem"]
	replace(t, cluster.GivenSecret, bad)
	const why = "ca: ca-key.pem is not the key of ca-cert.pem; the last good authority goes on signing"
	eventually(t, "an event tells of the bad Secret", func() (bool, error) {
		list, err := env.client.CoreV1().Events(cluster.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=cacerts"})
		if err != nil {
			return false, err
		}
		for _, e := range list.Items {
			if e.Type == corev1.EventTypeWarning && e.Message == why {
				return true, nil
			}
		}
		return false, nil
	})
	a.presents(t, given["root-cert.pem"])

	rotated := files(t, ca.Config{})
	rotated["root-cert.pem"] = append(bytes.Clone(rotated["root-cert.pem"]), given["root-cert.pem"]...)
	delete(rotated, "root-key.pem")
	replace(t, cluster.GivenSecret, rotated)
	eventually(t, "the chain ends in the new root", func() (bool, error) {
		_, err := certificate(b.cfg.Listeners.XDS, given["root-cert.pem"])
		return err != nil && strings.Contains(err.Error(), "unknown authority"), nil
	})
	b.presents(t, rotated["root-cert.pem"])

	if err := env.client.CoreV1().Secrets(cluster.Namespace).Delete(t.Context(), cluster.GivenSecret, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	a.presents(t, rotated["root-cert.pem"])
	if got := a.status(t).Authority; got != "Secret istio-system/cacerts" {
		t.Errorf("it signs by %s", got)
	}
}

// A cacerts that cannot sign is no authority to start with: the replica says
// what it waits for, and starts when the Secret is mended.
func TestStartWaitsForAGoodAuthority(t *testing.T) {
	need(t)
	forget(t)
	given := files(t, ca.Config{})
	keep(t, cluster.GivenSecret, ca.Files{"ca-cert.pem": given["ca-cert.pem"]})
	a := begin(t, "a", nil)
	const want = "the Secret istio-system/cacerts cannot be the authority: ca: read the authority: there is no ca-key.pem\n"
	eventually(t, "it says what it waits for", func() (bool, error) {
		_, text, err := a.get(a.cfg.Listeners.Health, "/healthz/ready")
		return text == want, err
	})
	replace(t, cluster.GivenSecret, given)
	a.ready(t).presents(t, given["root-cert.pem"])
	forget(t)
}

// Only the leader renews: an intermediate past half its life is signed anew by
// the same root, and all replicas follow. A Secret that was deleted comes back.
func TestLeaderKeepsTheAuthority(t *testing.T) {
	need(t)
	forget(t)
	old := due(t)
	keep(t, cluster.OwnSecret, old)
	a, b := begin(t, "a", nil).ready(t), begin(t, "b", nil).ready(t)
	eventually(t, "the intermediate is renewed", func() (bool, error) {
		return !bytes.Equal(secret(t, cluster.OwnSecret).Data["ca-cert.pem"], old["ca-cert.pem"]), nil
	})
	renewed := secret(t, cluster.OwnSecret)
	if !bytes.Equal(renewed.Data["root-cert.pem"], old["root-cert.pem"]) {
		t.Error("the root changed")
	}
	for _, r := range []*replica{a, b} {
		eventually(t, r.name+" signs with it", func() (bool, error) {
			return r.status(t).Control.CAExpiry.After(time.Now().Add(24 * time.Hour)), nil
		})
	}
	forget(t)
	eventually(t, "the Secret is back", func() (bool, error) {
		s, err := env.client.CoreV1().Secrets(cluster.Namespace).Get(t.Context(), cluster.OwnSecret, metav1.GetOptions{})
		return err == nil && bytes.Equal(s.Data["ca-key.pem"], renewed.Data["ca-key.pem"]), err
	})
}
