package source_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hasp/mesh"
)

// behind are the endpoints of a service, one a line.
func behind(svc *mesh.Service) []string {
	out := []string{}
	for _, e := range svc.Endpoints {
		at := e.Host
		if e.Addr.IsValid() {
			at = e.Addr.String()
		}
		out = append(out, fmt.Sprintf("%d -> %s %d %s sidecar=%t", e.ServicePort, at, e.Port, e.Workload, e.Sidecar))
	}
	return out
}

// pods of the cases: in the mesh and ready, not ready, and on the node.
const slicePods = `
apiVersion: v1
kind: Pod
metadata: {name: db-0, uid: a, labels: {app: db}}
spec: {initContainers: [{name: istio-proxy, image: x}], containers: [{name: app, image: x, ports: [{name: sql, containerPort: 3306}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: "fd77::1"}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, uid: b, labels: {app: db}}
spec: {initContainers: [{name: istio-proxy, image: x}], containers: [{name: app, image: x, ports: [{name: sql, containerPort: 3307}]}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}], conditions: [{type: Ready, status: "False"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: on-node, uid: c}
spec: {hostNetwork: true, containers: [{name: app, image: x}]}
status: {phase: Running, podIPs: [{ip: 172.18.0.2}], conditions: [{type: Ready, status: "True"}]}
---
`

// TestEndpointSlices: what they add to a service, and what is left out of them.
func TestEndpointSlices(t *testing.T) {
	for _, c := range []struct {
		name, service string
		slices        []string // without kind, metadata and braces
		want          []string
	}{
		{
			name:    "without selector: addresses outside the mesh, a node's among them",
			service: "ports: [{name: https, port: 443, targetPort: 6443}]",
			slices:  []string{`addressType: IPv4, ports: [{name: https, port: 6443}], endpoints: [{addresses: [172.18.0.2]}, {addresses: [192.0.2.1], conditions: {ready: true}}]`},
			want:    []string{"443 -> 172.18.0.2 6443  sidecar=false", "443 -> 192.0.2.1 6443  sidecar=false"},
		},
		{
			name:    "without selector: a pod by its address, and by name",
			service: "ports: [{port: 3306}]",
			slices:  []string{`addressType: IPv4, ports: [{port: 3306}], endpoints: [{addresses: [10.0.0.1]}, {addresses: [172.18.0.2], targetRef: {kind: Pod, name: on-node}}]`},
			want:    []string{"3306 -> 10.0.0.1 3306 shop/db-0 sidecar=true", "3306 -> 172.18.0.2 3306 shop/on-node sidecar=false"},
		},
		{
			name:    "not ready, terminating, not TCP, another port's name",
			service: "ports: [{name: sql, port: 3306}, {name: dns, port: 53, protocol: UDP}]",
			slices: []string{`addressType: IPv4, ports: [{name: sql, port: 3306}, {name: dns, port: 53, protocol: UDP}], endpoints: [{addresses: [192.0.2.1], conditions: {ready: false}},
 {addresses: [192.0.2.2], conditions: {ready: false, serving: true, terminating: true}}]`, `addressType: IPv4, ports: [{name: other, port: 3306}], endpoints: [{addresses: [192.0.2.3]}]`},
			want: []string{},
		},
		{
			name:    "a pod that we do not know, at another address, or not ready by its own word",
			service: "ports: [{port: 3306}]",
			slices: []string{`addressType: IPv4, ports: [{port: 3306}], endpoints: [{addresses: [10.0.0.9], targetRef: {kind: Pod, name: gone-0}},
 {addresses: [10.0.0.8], targetRef: {kind: Pod, name: db-0}}, {addresses: [10.0.0.2], targetRef: {kind: Pod, name: db-1}}]`},
			want: []string{},
		},
		{
			name:    "with selector: the pods speak for themselves, and what else is listed",
			service: "selector: {app: db}, ports: [{port: 3306, targetPort: sql}]",
			slices:  []string{`addressType: IPv4, ports: [{port: 3306}], endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: db-0}}, {addresses: [192.0.2.1]}]`, `addressType: FQDN, ports: [{port: 3306}], endpoints: [{addresses: [db.example.com]}]`},
			want:    []string{"3306 -> 10.0.0.1 3306 shop/db-0 sidecar=true", "3306 -> 192.0.2.1 3306  sidecar=false", "3306 -> fd77::1 3306 shop/db-0 sidecar=true"},
		},
		{
			name:    "with selector: no slice yet",
			service: "selector: {app: db}, ports: [{port: 3306, targetPort: sql}]",
			want:    []string{"3306 -> 10.0.0.1 3306 shop/db-0 sidecar=true", "3306 -> fd77::1 3306 shop/db-0 sidecar=true"},
		},
		{
			name:    "one family",
			service: "ipFamilies: [IPv6], selector: {app: db}, ports: [{port: 3306, targetPort: sql}]",
			want:    []string{"3306 -> fd77::1 3306 shop/db-0 sidecar=true"},
		},
		{
			name:    "not ready ones too, each at its own port of the name",
			service: "publishNotReadyAddresses: true, ipFamilies: [IPv4], selector: {app: db}, ports: [{port: 3306, targetPort: sql}]",
			want:    []string{"3306 -> 10.0.0.1 3306 shop/db-0 sidecar=true", "3306 -> 10.0.0.2 3307 shop/db-1 sidecar=true"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			manifest := slicePods + "{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {" + c.service + "}}"
			for i, slice := range c.slices {
				manifest += fmt.Sprintf("\n---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: db-%d, labels: {kubernetes.io/service-name: db}}, %s}", i, slice)
			}
			w, problems := load(t, manifest)
			if len(problems) > 0 {
				t.Error(problems)
			}
			if diff := cmp.Diff(c.want, behind(w.Service("shop", "db.shop.svc.cluster.local"))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestExternalName: a name outside stays one, another Service's is an alias of
// what is behind that.
func TestExternalName(t *testing.T) {
	w, _ := load(t, slicePods+`
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {app: db}, ipFamilies: [IPv4], ports: [{name: sql, port: 3306, targetPort: sql}, {name: admin, port: 33060}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: other}
spec: {type: ExternalName, externalName: db.shop.svc.cluster.local., ports: [{port: 3306}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: db.example.com, ports: [{port: 3306}]}
`)
	alias, outside := w.Service("other", "alias.other.svc.cluster.local"), w.Service("shop", "outside.shop.svc.cluster.local")
	if diff := cmp.Diff([]string{"3306 -> 10.0.0.1 3306 shop/db-0 sidecar=true"}, behind(alias)); diff != "" || alias.External {
		t.Errorf("alias: external=%t (-want +got)\n%s", alias.External, diff)
	}
	if diff := cmp.Diff([]string{"3306 -> db.example.com 3306  sidecar=false"}, behind(outside)); diff != "" || !outside.External {
		t.Errorf("outside: external=%t (-want +got)\n%s", outside.External, diff)
	}
}

// TestOwners: what a person deployed, for each kind that makes pods.
func TestOwners(t *testing.T) {
	for _, c := range []struct{ kind, name, labels, want string }{
		{"Deployment", "web", "", "web"},
		{"ReplicaSet", "web-5d4f", "pod-template-hash: 5d4f", "web"},
		{"ReplicaSet", "web-5d4f", "", "web-5d4f"},
		{"ReplicaSet", "web-5d4f", "rollouts-pod-template-hash: 5d4f", "web"},
		{"StatefulSet", "db", "", "db"},
		{"DaemonSet", "agent", "", "agent"},
		{"Job", "once", "", "once"},
		{"Job", "nightly-29401200", "", "nightly"},
		{"ReplicationController", "rc", "", "rc"},
		{"Node", "node-1", "", ""},
	} {
		w, _ := load(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {%s}, ownerReferences: [{apiVersion: x/v1, kind: %s, name: %s, uid: u, controller: true}]}
spec: {containers: [{name: app, image: x}]}
`, c.labels, c.kind, c.name))
		if got := w.Workload("shop/p").Owner; got != c.want {
			t.Errorf("%s %s {%s}: owner %q, want %q", c.kind, c.name, c.labels, got, c.want)
		}
	}
}
