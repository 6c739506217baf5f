package apiserver

import (
	"context"
	"maps"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

// reviewREST answers a question about the caller: kubectl auth whoami, oc
// whoami, kubectl auth can-i. Nothing is stored.
type reviewREST struct {
	singular string
	question func() runtime.Object
	answer   func(ctx context.Context, u user.Info, question runtime.Object) error
}

var (
	_ rest.Creater              = reviewREST{}
	_ rest.Scoper               = reviewREST{}
	_ rest.SingularNameProvider = reviewREST{}
)

func (r reviewREST) New() runtime.Object     { return r.question() }
func (r reviewREST) Destroy()                {}
func (r reviewREST) NamespaceScoped() bool   { return false }
func (r reviewREST) GetSingularName() string { return r.singular }

func (r reviewREST) Create(ctx context.Context, o runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	u, ok := genericapirequest.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("no user stands behind this request")
	}
	if validate != nil {
		if err := validate(ctx, o.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	return o, r.answer(ctx, u, o)
}

// whoami is authentication.k8s.io/v1 SelfSubjectReview.
func whoami() reviewREST {
	return reviewREST{"selfsubjectreview", func() runtime.Object { return &authenticationv1.SelfSubjectReview{} },
		func(_ context.Context, u user.Info, o runtime.Object) error {
			info := authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: slices.Clone(u.GetGroups()), Extra: map[string]authenticationv1.ExtraValue{}}
			for k, v := range maps.All(u.GetExtra()) {
				info.Extra[k] = v
			}
			o.(*authenticationv1.SelfSubjectReview).Status.UserInfo = info
			return nil
		}}
}

// canI is authorization.k8s.io/v1 SelfSubjectAccessReview.
func canI(authz authorizer.UnconditionalAuthorizer) reviewREST {
	return reviewREST{"selfsubjectaccessreview", func() runtime.Object { return &authorizationv1.SelfSubjectAccessReview{} },
		func(ctx context.Context, u user.Info, o runtime.Object) error {
			r := o.(*authorizationv1.SelfSubjectAccessReview)
			a := authorizer.AttributesRecord{User: u}
			switch {
			case r.Spec.ResourceAttributes != nil:
				q := r.Spec.ResourceAttributes
				a.ResourceRequest = true
				a.Verb, a.Namespace, a.APIGroup, a.APIVersion = q.Verb, q.Namespace, q.Group, q.Version
				a.Resource, a.Subresource, a.Name = q.Resource, q.Subresource, q.Name
			case r.Spec.NonResourceAttributes != nil:
				a.Verb, a.Path = r.Spec.NonResourceAttributes.Verb, r.Spec.NonResourceAttributes.Path
			default:
				return apierrors.NewBadRequest("exactly one of resourceAttributes and nonResourceAttributes is required")
			}
			d, why, err := authz.Authorize(ctx, a)
			r.Status = authorizationv1.SubjectAccessReviewStatus{Allowed: d == authorizer.DecisionAllow, Denied: d == authorizer.DecisionDeny, Reason: why}
			if err != nil {
				r.Status.EvaluationError = err.Error()
			}
			return nil
		}}
}
