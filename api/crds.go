package api

import (
	_ "embed"
	"encoding/json"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

//go:generate go run ./gen crds/istio.gen.json

var (
	//go:embed crds/istio.gen.json
	istioCRDs []byte
	//go:embed crds/authn.yaml
	authnCRDs []byte
)

// CRDs are the definitions of every kind of this package that Kubernetes does
// not bring along: Policy and MeshPolicy, and those of istio.io. The caller owns
// them.
func CRDs() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	var out []*apiextensionsv1.CustomResourceDefinition
	for _, c := range split(authnCRDs) {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(c.text, crd); err != nil {
			return nil, fmt.Errorf("api: definitions of authentication.istio.io: %w", err)
		}
		if len(out) > 0 { // the scope is all that MeshPolicy has of its own
			crd.Spec.Versions = out[0].DeepCopy().Spec.Versions
		}
		out = append(out, crd)
	}
	var istio struct {
		Items []*apiextensionsv1.CustomResourceDefinition `json:"items"`
	}
	if err := json.Unmarshal(istioCRDs, &istio); err != nil {
		return nil, fmt.Errorf("api: definitions of istio.io: %w", err)
	}
	return append(out, istio.Items...), nil
}
