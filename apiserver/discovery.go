package apiserver

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdlisters "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/version"
)

// groupList answers GET /apis for clients that do not ask for aggregated
// discovery (kubectl before 1.27, curl): the library answers those only for
// groups of its own, since on a cluster an aggregator stands before it.
type groupList struct {
	crds crdlisters.CustomResourceDefinitionLister
}

func (g *groupList) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || strings.TrimSuffix(r.URL.Path, "/") != "/apis" || strings.Contains(r.Header.Get("Accept"), "g=apidiscovery.k8s.io") {
			next.ServeHTTP(w, r)
			return
		}
		crds, err := g.crds.List(labels.Everything())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(groupsOf(crds)) // the client hung up, else
	})
}

// groupsOf lists our own groups and those of the custom resources, by name,
// the best version of each first.
func groupsOf(crds []*apiextensionsv1.CustomResourceDefinition) metav1.APIGroupList {
	versions := map[string][]string{"apiextensions.k8s.io": {"v1"}, "apps": {"v1"}, "authentication.k8s.io": {"v1"}, "authorization.k8s.io": {"v1"}}
	for _, d := range crds {
		for _, v := range d.Spec.Versions {
			if v.Served && !slices.Contains(versions[d.Spec.Group], v.Name) {
				versions[d.Spec.Group] = append(versions[d.Spec.Group], v.Name)
			}
		}
	}
	l := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for name, vs := range versions {
		slices.SortFunc(vs, func(a, b string) int { return version.CompareKubeAwareVersionStrings(b, a) })
		g := metav1.APIGroup{Name: name}
		for _, v := range vs {
			g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + v, Version: v})
		}
		g.PreferredVersion = g.Versions[0]
		l.Groups = append(l.Groups, g)
	}
	slices.SortFunc(l.Groups, func(a, b metav1.APIGroup) int { return strings.Compare(a.Name, b.Name) })
	return l
}
