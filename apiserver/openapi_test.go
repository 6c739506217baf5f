package apiserver

import (
	"fmt"
	"sync"
	"testing"

	"github.com/emicklei/go-restful/v3"
	corev1 "k8s.io/api/core/v1"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

// The first kubectl asks for the list of documents, which asks for all of them
// at once. Built side by side they wrote to one map, which ends the process.
func TestDocumentsAreBuiltOneAtATime(t *testing.T) {
	scheme, err := newScheme(builtin("node"))
	if err != nil {
		t.Fatal(err)
	}
	defs := definitions([]any{&corev1.Service{}, &corev1.Pod{}})
	var paths []string
	var services []*restful.WebService
	for i := range 8 {
		path := fmt.Sprintf("apis/%d", i)
		paths = append(paths, path)
		w := new(restful.WebService).Path("/" + path)
		nothing := func(*restful.Request, *restful.Response) {}
		w.Route(w.GET("/services").To(nothing).Operation(fmt.Sprint("readServices", i)).Returns(200, "OK", corev1.Service{}))
		w.Route(w.GET("/pods").To(nothing).Operation(fmt.Sprint("readPods", i)).Returns(200, "OK", corev1.Pod{}))
		services = append(services, w)
	}
	for range 100 {
		cfg := genericapiserver.DefaultOpenAPIV3Config(defs, openapinamer.NewDefinitionNamer(scheme))
		var wg sync.WaitGroup
		for path, doc := range documentsOf(services, cfg, paths...) {
			wg.Go(func() {
				d, _, err := doc.Get()
				if err != nil {
					t.Errorf("%s: %v", path, err)
				} else if len(d.Components.Schemas) < 10 {
					t.Errorf("%s has %d schemas", path, len(d.Components.Schemas))
				}
			})
		}
		wg.Wait()
	}
}
