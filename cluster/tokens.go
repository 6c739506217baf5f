package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	authentication "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"hasp/ca/csr"
	"hasp/mesh"
)

const (
	// reviewTimeout bounds one question to the API server; the proxy waits ten
	// seconds for its answer.
	reviewTimeout = 5 * time.Second
	// podName is where a TokenReview tells the pod that a token is bound to.
	podName = "authentication.kubernetes.io/pod-name"
	// accountPrefix starts a ServiceAccount's user name.
	accountPrefix = "system:serviceaccount:"
)

// tokens verifies ServiceAccount tokens by asking the API server (TokenReview),
// which knows at once when the pod of a bound token is gone. Answers are not
// kept: a proxy shows its token only for its first certificate.
type tokens struct {
	client      kubernetes.Interface
	trustDomain string
	reviewed    func(outcome string) // counts
}

// Verify implements csr.Verifier.
func (t tokens) Verify(ctx context.Context, token, workload string) (spiffeid.ID, error) {
	if strings.Count(token, ".") != 2 {
		return spiffeid.ID{}, csr.ErrNotMine // no JWT
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	review, err := t.client.AuthenticationV1().TokenReviews().Create(ctx, &authentication.TokenReview{
		Spec: authentication.TokenReviewSpec{Token: token, Audiences: []string{TokenAudience}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.reviewed("unavailable")
		return spiffeid.ID{}, fmt.Errorf("%w: %w", csr.ErrUnavailable, err)
	}
	id, err := identityOf(&review.Status, t.trustDomain, workload)
	if err != nil {
		t.reviewed("refused")
		return spiffeid.ID{}, err
	}
	t.reviewed("accepted")
	return id, nil
}

// identityOf is what a reviewed token proves: its ServiceAccount's identity, to
// the pod that it is bound to and to nobody else.
func identityOf(s *authentication.TokenReviewStatus, trustDomain, workload string) (spiffeid.ID, error) {
	none := spiffeid.ID{}
	if !s.Authenticated {
		if s.Error != "" {
			return none, fmt.Errorf("the API server does not accept the token: %s", s.Error)
		}
		return none, errors.New("the API server does not accept the token")
	}
	// An API server that knows no audiences answers without any.
	if !slices.Contains(s.Audiences, TokenAudience) {
		return none, fmt.Errorf("the token is not for the audience %s", TokenAudience)
	}
	namespace, account, ok := strings.Cut(strings.TrimPrefix(s.User.Username, accountPrefix), ":")
	if !ok || !strings.HasPrefix(s.User.Username, accountPrefix) {
		return none, fmt.Errorf("the token is of %q, which is no ServiceAccount", s.User.Username)
	}
	pods := s.User.Extra[podName]
	if len(pods) != 1 || pods[0] == "" {
		return none, errors.New("the token is not bound to a pod")
	}
	if bound := namespace + "/" + pods[0]; workload != "" && workload != bound {
		return none, fmt.Errorf("the token is bound to the pod %s, not to %s", bound, workload)
	}
	id, err := spiffeid.FromString(mesh.Identity(trustDomain, namespace, account))
	if err != nil {
		return none, fmt.Errorf("the token's ServiceAccount: %w", err)
	}
	return id, nil
}
