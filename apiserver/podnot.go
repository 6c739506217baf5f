package apiserver

import (
	"context"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
)

// absentREST is a subresource of pods that is not served: it says so, where a
// mere 404 would leave a user of kubectl to guess.
type absentREST struct{ instead string }

var _ rest.Connecter = absentREST{}

func (absentREST) New() runtime.Object      { return &corev1.Pod{} }
func (absentREST) Destroy()                 {}
func (absentREST) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }
func (absentREST) NewConnectOptions() (runtime.Object, bool, string) {
	return nil, false, ""
}

func (r absentREST) Connect(context.Context, string, runtime.Object, rest.Responder) (http.Handler, error) {
	return nil, apierrors.NewBadRequest(r.instead)
}
