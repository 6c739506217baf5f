package cluster

import (
	"context"
	"errors"
	"testing"

	authentication "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"hasp/ca/csr"
)

// What an API server says of a token, and what the token proves then.
func TestIdentityOf(t *testing.T) {
	status := func(change func(*authentication.TokenReviewStatus)) *authentication.TokenReviewStatus {
		s := &authentication.TokenReviewStatus{
			Authenticated: true, Audiences: []string{"istio-ca"},
			User: authentication.UserInfo{
				Username: "system:serviceaccount:shop:boards",
				Extra:    map[string]authentication.ExtraValue{podName: {"boards-1"}},
			},
		}
		change(s)
		return s
	}
	for _, tt := range []struct {
		name     string
		change   func(*authentication.TokenReviewStatus)
		workload string
		want     string // identity, or the error
	}{
		{"good", func(*authentication.TokenReviewStatus) {}, "shop/boards-1", "spiffe://cluster.local/ns/shop/sa/boards"},
		{"names no workload", func(*authentication.TokenReviewStatus) {}, "", "spiffe://cluster.local/ns/shop/sa/boards"},
		{"not accepted", func(s *authentication.TokenReviewStatus) { s.Authenticated, s.Error = false, "token has expired" }, "shop/boards-1",
			"the API server does not accept the token: token has expired"},
		{"not accepted, no reason", func(s *authentication.TokenReviewStatus) { s.Authenticated = false }, "shop/boards-1",
			"the API server does not accept the token"},
		{"no audience", func(s *authentication.TokenReviewStatus) { s.Audiences = nil }, "shop/boards-1",
			"the token is not for the audience istio-ca"},
		{"another pod", func(*authentication.TokenReviewStatus) {}, "shop/boards-2",
			"the token is bound to the pod shop/boards-1, not to shop/boards-2"},
		{"another namespace", func(*authentication.TokenReviewStatus) {}, "bank/boards-1",
			"the token is bound to the pod shop/boards-1, not to bank/boards-1"},
		{"no pod", func(s *authentication.TokenReviewStatus) { s.User.Extra = nil }, "", "the token is not bound to a pod"},
		{"two pods", func(s *authentication.TokenReviewStatus) { s.User.Extra[podName] = []string{"boards-1", "boards-2"} }, "shop/boards-1",
			"the token is not bound to a pod"},
		{"a person", func(s *authentication.TokenReviewStatus) { s.User.Username = "jane" }, "shop/boards-1",
			`the token is of "jane", which is no ServiceAccount`},
		{"a person of that form", func(s *authentication.TokenReviewStatus) { s.User.Username = "shop:boards" }, "shop/boards-1",
			`the token is of "shop:boards", which is no ServiceAccount`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, err := identityOf(status(tt.change), "cluster.local", tt.workload)
			got := id.String()
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// An API server that is away refuses nobody; a token of another form is for
// another verifier.
func TestVerify(t *testing.T) {
	fakeAPI := fake.NewClientset()
	fakeAPI.PrependReactor("create", "tokenreviews", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewServiceUnavailable("starting")
	})
	var outcomes []string
	v := tokens{client: fakeAPI, trustDomain: "cluster.local", reviewed: func(o string) { outcomes = append(outcomes, o) }}
	if _, err := v.Verify(context.Background(), "single-use", "shop/boards-1"); !errors.Is(err, csr.ErrNotMine) {
		t.Errorf("a token that is no JWT: %v", err)
	}
	_, err := v.Verify(context.Background(), "a.b.c", "shop/boards-1")
	if want := "the token cannot be verified now: starting"; !errors.Is(err, csr.ErrUnavailable) || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if len(outcomes) != 1 || outcomes[0] != "unavailable" {
		t.Errorf("counted %q", outcomes)
	}
}
