package truth_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"hasp/mesh"
	"hasp/source"
	"hasp/truth"
	"hasp/world"
)

// noon is when the tests play.
var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// after noon.
func after(d time.Duration) time.Time { return noon.Add(d) }

// pod of a Deployment with its address, in or out of the mesh.
func pod(namespace, owner, name, ip string, meshed bool) string {
	proxy := ""
	if meshed {
		proxy = "initContainers: [{name: istio-proxy, image: x}], "
	}
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata:
  namespace: %s
  name: %s
  labels: {app: %s, pod-template-hash: abc}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: %s-abc, uid: u, controller: true}]
spec: {serviceAccountName: %s, %scontainers: [{name: app, image: x, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIP: %s, conditions: [{type: Ready, status: "True"}]}
`, namespace, name, owner, owner, owner, proxy, ip)
}

// town has, in namespace shop, the meshed web-1 and api-1, the unmeshed
// legacy-1, a Service api 80 -> 8080, and a node 10.1.0.1.
var town = pod("shop", "web", "web-1", "10.0.0.1", true) + pod("shop", "api", "api-1", "10.0.0.2", true) +
	pod("shop", "legacy", "legacy-1", "10.0.0.3", false) + `
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: kube-system}
spec: {hostNetwork: true, containers: [{name: app, image: x}]}
status: {phase: Running, podIP: 10.1.0.1, conditions: [{type: Ready, status: "True"}]}
`

const apiHost = "api.shop.svc.cluster.local"

// build a World of manifests.
func build(t testing.TB, manifests ...string) *world.World {
	t.Helper()
	w, _, err := source.FromFiles(strings.NewReader(strings.Join(manifests, "\n---\n")), "shop", "-")
	if err != nil {
		t.Fatal(err)
	}
	w.Generation = 7
	return w
}

// addr0 is none.
var addr0 netip.AddrPort

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func id(account string) string { return mesh.Identity("cluster.local", "shop", account) }

// report of a workload of namespace shop whose name is ACCOUNT-N.
func report(node string, at time.Time, conns []mesh.Connection, edges ...mesh.Edge) *mesh.Report {
	account, _, _ := strings.Cut(node, "-")
	return &mesh.Report{Node: "shop/" + node, Identity: id(account), Start: after(-time.Hour), At: at, Generation: 7, Connections: conns, Edges: edges}
}

// take a report, or fail.
func take(t testing.TB, b *truth.Book, w *world.World, r *mesh.Report, now time.Time) {
	t.Helper()
	if err := b.Take(w, r, now); err != nil {
		t.Fatal(err)
	}
}

// booked is a Book that has heard, at noon, that the proxies of nodes are there.
func booked(t testing.TB, w *world.World, nodes ...string) *truth.Book {
	b := truth.NewBook(truth.Limits{})
	for _, n := range nodes {
		take(t, b, w, report(n, noon, nil), noon)
	}
	return b
}

// both ends of a connection of web-1 to api-1 by mutual TLS.
func both(trace string, start time.Time) (out, in mesh.Connection) {
	out = mesh.Connection{ID: 1, Trace: trace, Direction: mesh.OutboundDir, Source: addr("10.0.0.1:40000"), Destination: addr("10.96.0.1:80"),
		Local: addr("10.0.0.1:50000"), Upstream: addr("10.0.0.2:8080"), Service: apiHost, Protocol: mesh.HTTP, PeerIdentity: id("api"),
		Security: mesh.MutualTLS, TLS: "1.3", Group: "X25519MLKEM768", Allowed: true, Mode: "AUTO", Rule: mesh.Origin{Level: mesh.LevelAuto},
		Generation: 7, Sent: 10, Received: 20, Start: start, LastSeen: start}
	in = mesh.Connection{ID: 1, Trace: trace, Direction: mesh.InboundDir, Source: addr("10.0.0.1:50000"), Destination: addr("10.0.0.2:8080"),
		Upstream: addr("10.0.0.2:8080"), Service: apiHost, Protocol: mesh.HTTP, PeerIdentity: id("web"),
		Security: mesh.MutualTLS, TLS: "1.3", Group: "X25519MLKEM768", Allowed: true, Mode: "STRICT",
		Rule:       mesh.Origin{Kind: "PeerAuthentication", Namespace: "shop", Name: "default", Level: mesh.LevelNamespace},
		Generation: 7, Sent: 10, Received: 20, Start: start, LastSeen: start}
	return out, in
}

// traced is a trace made of a word.
func traced(word string) string {
	return mesh.TraceOf([]byte(word), netip.AddrPort{}, netip.AddrPort{})
}

// inEdge is a line of api-1's ledger about a peer, "" and a network for an
// address.
func inEdge(peer string, s mesh.Security, first, last time.Time, n uint64) mesh.Edge {
	e := mesh.Edge{EdgeKey: mesh.EdgeKey{Direction: mesh.InboundDir, Service: apiHost, Port: 8080, Security: s, Allowed: true},
		Mode: "PERMISSIVE", Generation: 7, First: first, Last: last, Connections: n, Sent: 100 * n, Received: 10 * n}
	if p, err := netip.ParsePrefix(peer); err == nil {
		e.PeerNet = p
	} else {
		e.Peer = peer
	}
	if s == mesh.MutualTLS {
		account, _, _ := strings.Cut(strings.TrimPrefix(peer, "shop/"), "-")
		e.PeerIdentity = id(account)
		e.Handshake = &mesh.Handshake{At: last, TLS: "1.3", Group: "X25519MLKEM768", LocalIdentity: id("api"), PeerIdentity: id(account)}
	}
	return e
}

// outEdge is a line of web-1's ledger about api-1.
func outEdge(s mesh.Security, first, last time.Time, n uint64) mesh.Edge {
	e := mesh.Edge{EdgeKey: mesh.EdgeKey{Direction: mesh.OutboundDir, Peer: "shop/api-1", Service: apiHost, Port: 80, Security: s, Allowed: true},
		Mode: "AUTO", Rule: mesh.Origin{Level: mesh.LevelAuto}, Generation: 7, First: first, Last: last, Connections: n, Sent: 100 * n, Received: 10 * n}
	if s == mesh.MutualTLS {
		e.PeerIdentity = id("api")
		e.Handshake = &mesh.Handshake{At: last, TLS: "1.3", Group: "X25519MLKEM768", LocalIdentity: id("web"), PeerIdentity: id("api")}
	}
	return e
}

// node finds the edges of one.
func edgesOf(f *truth.Facts, node string) []mesh.Edge {
	return slices.DeleteFunc(slices.Clone(f.Edges), func(e mesh.Edge) bool { return e.Node != node })
}
