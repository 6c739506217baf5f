package apiserver

import (
	"strings"
	"sync"

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
// cluster the aggregator does that.
func mergeOpenAPI(core *core, front *genericapiserver.GenericAPIServer) {
	documents := documentsOf(core.server.Handler.GoRestfulContainer.RegisteredWebServices(), core.openAPIV3,
		"api/v1", "apis/apps/v1", "apis/authentication.k8s.io/v1", "apis/authorization.k8s.io/v1")
	for path, doc := range documents {
		front.OpenAPIV3VersionedService.UpdateGroupVersionLazy(path, doc)
	}
}

// documentsOf are the documents of some paths. Each is built when first asked
// for, and one at a time: the builder deletes from the definitions' own maps,
// which all documents share, and whoever asks for the list asks for all at once.
func documentsOf(services []*restful.WebService, cfg *common.OpenAPIV3Config, paths ...string) map[string]cached.Value[*spec3.OpenAPI] {
	var building sync.Mutex
	m := map[string]cached.Value[*spec3.OpenAPI]{}
	for _, path := range paths {
		var ws []*restful.WebService
		for _, w := range services {
			if strings.TrimPrefix(w.RootPath(), "/") == path {
				ws = append(ws, w)
			}
		}
		m[path] = cached.Once(cached.Func(func() (*spec3.OpenAPI, string, error) {
			building.Lock()
			defer building.Unlock()
			doc, err := builder3.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(ws), cfg)
			return doc, Version + path, err
		}))
	}
	return m
}
