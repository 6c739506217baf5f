package deploy_test

import (
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientscheme "k8s.io/client-go/kubernetes/scheme"

	"hasp/deploy"
)

func render(t *testing.T, o deploy.Options) []*unstructured.Unstructured {
	t.Helper()
	objects, err := deploy.Render(o)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// typed is an object as its Go type, which has no field that the chart's has not.
func typed(t *testing.T, u *unstructured.Unstructured) runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	text, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	obj, _, err := strict.Decode(text, nil, nil)
	if err != nil {
		t.Errorf("%s %s: %v", u.GetKind(), u.GetName(), err)
	}
	return obj
}

func TestRenderDecodes(t *testing.T) {
	for _, u := range render(t, deploy.Options{}) {
		typed(t, u)
	}
}
