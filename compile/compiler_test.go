package compile_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hasp/compile"
	"hasp/source"
)

// TestCompiler: what proxies share is what each would have alone. Two of the
// clients are told apart by nothing but a rule that selects one of them.
func TestCompiler(t *testing.T) {
	pod := func(namespace, name, extra string) string {
		return `
---
apiVersion: v1
kind: Pod
metadata: {name: ` + name + `, namespace: ` + namespace + `, labels: {app: ` + name + `}` + extra + `}
spec: {initContainers: [{name: istio-proxy, image: x}], containers: [{name: app, image: x}]}
status: {phase: Running, podIP: 10.0.0.` + name[len(name)-1:] + `}`
	}
	w, _, err := source.FromFiles(strings.NewReader(pod("shop", "a1", "")+pod("shop", "b2", "")+pod("shop", "c3", "")+pod("bank", "d4", "")+`
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: a1}, ports: [{port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: selected, namespace: shop}
spec: {host: a, workloadSelector: {matchLabels: {app: b2}}, trafficPolicy: {tls: {mode: DISABLE}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bank, namespace: bank}
spec: {host: a.shop.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
`), "shop", "-")
	if err != nil {
		t.Fatal(err)
	}
	c := compile.New(w)
	var modes []string
	for _, wl := range w.Workloads {
		alone, _ := compile.For(w, wl)
		one, _ := c.For(wl)
		if diff := cmp.Diff(alone, one, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-alone +one of many)\n%s", wl.Key(), diff)
		}
		modes = append(modes, wl.Name+" "+string(one.Outbound.Clusters[0].TLS.Mode))
	}
	if diff := cmp.Diff([]string{"d4 ISTIO_MUTUAL", "a1 ", "b2 DISABLE", "c3 "}, modes); diff != "" {
		t.Errorf("what each client speaks (-want +got)\n%s", diff)
	}
}
