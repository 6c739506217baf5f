package truth_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hasp/mesh"
	"hasp/truth"
	"hasp/world"
)

const (
	disable = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api, namespace: shop}
spec: {host: api, trafficPolicy: {tls: {mode: DISABLE}}}
`
	serverDisable = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: DISABLE}}
`
	legacyPatch = `give legacy.shop a sidecar, with the label sidecar.istio.io/inject: "true" on its pods: kubectl -n shop patch deployment legacy -p '{"spec":{"template":{"metadata":{"labels":{"sidecar.istio.io/inject":"true"}}}}}'`
)

// TestPlaintext: what the ledger says of one client, and the way out.
func TestPlaintext(t *testing.T) {
	hour := after(-time.Hour)
	plainOut := func(why string) mesh.Edge {
		e := outEdge(mesh.Plaintext, hour, noon, 4)
		e.Why = why
		return e
	}
	for name, c := range map[string]struct {
		later    time.Duration // when it is asked, after a minute if 0
		more     string        // manifests
		mesh     func(*world.World)
		in, out  []mesh.Edge
		meshed   bool // legacy is in the mesh now
		want     string
		fix      string
		resolved bool
	}{
		"no sidecar": {in: []mesh.Edge{inEdge("shop/legacy-1", mesh.Plaintext, hour, noon, 3)},
			want: "legacy.shop > api.shop:8080 3", fix: legacyPatch},
		"no sidecar then, none of its own word yet": {meshed: true, in: []mesh.Edge{inEdge("shop/legacy-1", mesh.Plaintext, hour, noon, 3)},
			want: "legacy.shop > api.shop:8080 3", fix: "legacy.shop has a sidecar now: its next connection will show"},
		"a sidecar since": {meshed: true, in: []mesh.Edge{inEdge("shop/legacy-1", mesh.Plaintext, hour, hour, 3), inEdge("shop/legacy-1", mesh.MutualTLS, after(-time.Minute), noon, 1)},
			want: "legacy.shop > api.shop:8080 3", fix: "nothing is left to do: it speaks mutual TLS now", resolved: true},
		"both by turns, plaintext last": {meshed: true, in: []mesh.Edge{inEdge("shop/legacy-1", mesh.Plaintext, hour, noon, 3), inEdge("shop/legacy-1", mesh.MutualTLS, hour, after(-time.Minute), 1)},
			want: "legacy.shop > api.shop:8080 3", fix: "legacy.shop has a sidecar now: its next connection will show"},
		"cut off since": {more: strict, in: []mesh.Edge{inEdge("shop/legacy-1", mesh.Plaintext, hour, noon, 3)},
			want: "legacy.shop > api.shop:8080 3", fix: "PeerAuthentication shop/default (namespace) is STRICT and refuses it now; to let it in again, " + legacyPatch},
		"a node": {in: []mesh.Edge{inEdge("10.1.0.1/32", mesh.Plaintext, hour, noon, 3)},
			want: "host 10.1.0.1 > api.shop:8080 3", fix: "processes of a host and pods on its network have no sidecar: call from a pod of the mesh, or through an ingress gateway"},
		"outside": {in: []mesh.Edge{inEdge("192.0.2.0/24", mesh.Plaintext, hour, noon, 3)},
			want: "192.0.2.0/24 > api.shop:8080 3", fix: "the client is outside the mesh: let it call through an ingress gateway, which speaks mutual TLS to api.shop"},
		"a rule says DISABLE": {more: disable, in: []mesh.Edge{inEdge("shop/web-1", mesh.Plaintext, hour, noon, 4)}, out: []mesh.Edge{plainOut("DISABLE of DestinationRule shop/api (service)")},
			want: "web.shop > api.shop:8080 4 DISABLE of DestinationRule shop/api (service)",
			fix:  "DestinationRule shop/api (service) says tls.mode DISABLE: change it to ISTIO_MUTUAL (kubectl -n shop edit destinationrule api)"},
		"auto mTLS off": {mesh: func(w *world.World) { w.Mesh.EnableAutoMtls = false },
			in: []mesh.Edge{inEdge("shop/web-1", mesh.Plaintext, hour, noon, 4)}, out: []mesh.Edge{plainOut("no rule asks for TLS and auto mTLS does not apply")},
			want: "web.shop > api.shop:8080 4 no rule asks for TLS and auto mTLS does not apply",
			fix:  "auto mTLS is off and no rule asks for TLS: turn enableAutoMtls on, or apply a DestinationRule in namespace shop with spec {host: api.shop.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}"},
		"the server says DISABLE": {more: serverDisable, in: []mesh.Edge{inEdge("shop/web-1", mesh.Plaintext, hour, noon, 4)}, out: []mesh.Edge{plainOut("why")},
			want: "web.shop > api.shop:8080 4 why",
			fix:  "PeerAuthentication shop/default (namespace) says DISABLE: change it to PERMISSIVE, and clients speak mutual TLS (kubectl -n shop edit peerauthentication default)"},
		"settled since, not yet shown": {in: []mesh.Edge{inEdge("shop/web-1", mesh.Plaintext, hour, noon, 4)}, out: []mesh.Edge{plainOut("why")},
			want: "web.shop > api.shop:8080 4 why", fix: "its settings ask for mutual TLS now: its next connection will show"},
		"settled since, and shown": {in: []mesh.Edge{inEdge("shop/web-1", mesh.Plaintext, hour, after(-2), 4), inEdge("shop/web-1", mesh.MutualTLS, after(-1), noon, 4)}, out: []mesh.Edge{plainOut("why")},
			want: "web.shop > api.shop:8080 4 why", fix: "nothing is left to do: it speaks mutual TLS now", resolved: true},
		"past the client's proxy": {in: []mesh.Edge{inEdge("shop/web-1", mesh.Plaintext, hour, after(time.Second), 4)},
			want: "web.shop > api.shop:8080 4",
			fix:  "the proxy of web.shop did not see it: take port 8080, or the server's addresses, out of the annotations traffic.sidecar.istio.io/excludeOutboundPorts and excludeOutboundIPRanges of its pods"},
		"past the server's proxy": {out: []mesh.Edge{plainOut("the server has no sidecar")},
			want: "web.shop > api.shop:8080 4 the server has no sidecar",
			fix:  "the proxy of api.shop did not see it: take port 8080 out of the annotation traffic.sidecar.istio.io/excludeInboundPorts of its pods, if it is there, and see with hasp verify what bypasses the proxy"},
		"the server's proxy may be about to tell": {later: 2 * time.Second, out: []mesh.Edge{outEdge(mesh.Plaintext, noon, noon, 1)}, mesh: func(w *world.World) { w.Mesh.EnableAutoMtls = false },
			want: "web.shop > api.shop:8080 1",
			fix:  "auto mTLS is off and no rule asks for TLS: turn enableAutoMtls on, or apply a DestinationRule in namespace shop with spec {host: api.shop.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}"},
		"the application's own TLS": {in: []mesh.Edge{inEdge("shop/web-1", mesh.PassedTLS, hour, noon, 4)}, out: []mesh.Edge{plainOut("DISABLE")},
			want: "web.shop > api.shop:8080 4 DISABLE",
			fix:  "the application speaks TLS of its own: let it speak plaintext to api.shop and its sidecar will encrypt, or keep port 8080 out of STRICT with portLevelMtls"},
		"mutual TLS": {in: []mesh.Edge{inEdge("shop/web-1", mesh.MutualTLS, hour, noon, 4)}},
	} {
		t.Run(name, func(t *testing.T) {
			manifests := town
			if c.meshed {
				manifests = strings.ReplaceAll(manifests, pod("shop", "legacy", "legacy-1", "10.0.0.3", false), pod("shop", "legacy", "legacy-1", "10.0.0.3", true))
			}
			w := build(t, manifests, c.more)
			if c.mesh != nil {
				c.mesh(w)
			}
			b := booked(t, w, "web-1", "api-1")
			take(t, b, w, report("api-1", after(time.Second), nil, c.in...), after(time.Second))
			take(t, b, w, report("web-1", after(time.Second), nil, c.out...), after(time.Second))
			later := time.Minute
			if c.later > 0 {
				later = c.later
			}
			got := truth.PlaintextOf(w, b.Facts(7, after(later)))
			if c.want == "" {
				if len(got.Lines) > 0 {
					t.Errorf("%v", got.Lines)
				}
				return
			}
			if len(got.Lines) != 1 {
				t.Fatalf("%d lines", len(got.Lines))
			}
			l := got.Lines[0]
			if s := strings.TrimSpace(fmt.Sprintf("%s > %s:%d %d %s", l.Source, l.Destination, l.Port, l.Count, l.Why)); s != c.want {
				t.Errorf("%s\nwant %s", s, c.want)
			}
			if l.Fix != c.fix {
				t.Errorf("fix: %s\nwant %s", l.Fix, c.fix)
			}
			if l.Hinders() == c.resolved {
				t.Errorf("mutual since %s", l.MutualSince)
			}
			n := 1
			if c.resolved {
				n = 0
			}
			if diff := cmp.Diff([]truth.Called{{Namespace: "shop", Name: "api", Meshed: true, Plain: n}}, got.Servers); diff != "" {
				t.Errorf("servers (-want +got)\n%s", diff)
			}
		})
	}
}

// TestReplaced: pods come and go, the line is of their Deployment. It hinders
// until none of its pods lacks a proxy and one has shown mutual TLS.
func TestReplaced(t *testing.T) {
	bare := build(t, town)
	b := booked(t, bare, "api-1")
	take(t, b, bare, report("api-1", after(time.Second), nil, inEdge("shop/legacy-1", mesh.Plaintext, noon, after(time.Second), 3)), after(time.Second))
	without := strings.ReplaceAll(town, pod("shop", "legacy", "legacy-1", "10.0.0.3", false), "")
	two, three := pod("shop", "legacy", "legacy-2", "10.0.0.4", true), pod("shop", "legacy", "legacy-3", "10.0.0.5", false)
	ask := func(step string, w *world.World, hinders bool, fix string) {
		t.Helper()
		got := truth.PlaintextOf(w, b.Facts(7, after(time.Hour)))
		if len(got.Lines) != 1 || got.Lines[0].Source.String() != "legacy.shop" {
			t.Fatalf("%s: %v", step, got.Lines)
		}
		if l := got.Lines[0]; l.Hinders() != hinders || l.Fix != fix {
			t.Errorf("%s: mutual since %s: %s", step, l.MutualSince, l.Fix)
		}
	}
	ask("its pod is gone", build(t, without), true, legacyPatch)
	ask("one with a proxy came", build(t, without, two), true, "legacy.shop has a sidecar now: its next connection will show")
	w := build(t, without, two)
	take(t, b, w, report("api-1", after(time.Minute), nil, inEdge("shop/legacy-2", mesh.MutualTLS, after(time.Minute), after(time.Minute), 1)), after(time.Minute))
	ask("and has spoken", w, false, "nothing is left to do: it speaks mutual TLS now")
	ask("and one without", build(t, without, two, three), true, legacyPatch)
}

// TestBlind: of a meshed workload whose proxy does not report nothing is said.
func TestBlind(t *testing.T) {
	w := build(t, town)
	b := booked(t, w, "web-1")
	if diff := cmp.Diff([]string{"shop/api-1"}, truth.PlaintextOf(w, b.Facts(7, noon)).Blind); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
