package apiserver

import (
	"strings"

	"github.com/emicklei/go-restful/v3"
	generatedopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/spec3"
)

// definitions are the schemas of the built-in kinds, which server-side apply,
// kubectl explain and kubectl diff need. The generated ones belong to
// k8s.io/kubernetes, which nobody can import; these come from the Go types.
func definitions(objects []any) common.GetOpenAPIDefinitions {
	return func(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
		m := generatedopenapi.GetOpenAPIDefinitions(ref)
		r := reflector{m, ref}
		for _, o := range objects {
			r.add(o)
		}
		return m
	}
}

// mergeOpenAPI shows the built-in kinds in the front server's /openapi/v3; on a
// cluster the aggregator does that. Each document is built when first asked for.
func mergeOpenAPI(core *core, front *genericapiserver.GenericAPIServer) error {
	for _, path := range []string{"api/v1", "apis/apps/v1", "apis/authentication.k8s.io/v1", "apis/authorization.k8s.io/v1"} {
		var ws []*restful.WebService
		for _, w := range core.server.Handler.GoRestfulContainer.RegisteredWebServices() {
			if strings.TrimPrefix(w.RootPath(), "/") == path {
				ws = append(ws, w)
			}
		}
		front.OpenAPIV3VersionedService.UpdateGroupVersionLazy(path, cached.Once(cached.Func(func() (*spec3.OpenAPI, string, error) {
			doc, err := builder3.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(ws), core.openAPIV3)
			return doc, Version + path, err
		})))
	}
	return nil
}
