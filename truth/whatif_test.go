package truth_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"hasp/ca"
	"hasp/mesh"
	"hasp/source"
	"hasp/truth"
	"hasp/world"
)

// plaza is a mesh without auto mTLS: boards with its clients web (a sidecar, no
// rule), ruled (a rule asks for TLS in its namespace), legacy (no sidecar) and
// an address outside.
const plaza = `
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: "enableAutoMtls: false"}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: shop, labels: {app: web}}, spec: {serviceAccountName: web, containers: [{name: a, image: x}, {name: istio-proxy, image: x}]}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: legacy-1, namespace: shop, labels: {app: legacy}}, spec: {containers: [{name: a, image: x}]}, status: {podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: boards-1, namespace: shop, labels: {app: boards}}, spec: {serviceAccountName: boards, containers: [{name: a, image: x, ports: [{containerPort: 80}]}, {name: istio-proxy, image: x}]}, status: {podIP: 10.0.0.3}}
---
{apiVersion: v1, kind: Pod, metadata: {name: ruled-1, namespace: bank, labels: {app: ruled}}, spec: {serviceAccountName: ruled, containers: [{name: a, image: x}, {name: istio-proxy, image: x}]}, status: {podIP: 10.0.0.4}}
---
{apiVersion: v1, kind: Service, metadata: {name: boards, namespace: shop}, spec: {clusterIP: 10.96.0.3, selector: {app: boards}, ports: [{name: http, port: 8080, targetPort: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: mtls, namespace: bank}, spec: {host: boards.shop.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}}
`

const boardsHost = "boards.shop.svc.cluster.local"

// would is the World of a manifest, and the one with a candidate over it.
func would(t testing.TB, manifest, candidate string, remove bool) (before, after *world.World) {
	t.Helper()
	read := func(o *source.Objects, text string, remove bool, year int) *source.Objects {
		m, err := source.ReadCandidate(strings.NewReader(text), "test.yaml")
		if err != nil {
			t.Fatal(err)
		}
		for _, obj := range m {
			if p, ok := obj.Value.(*corev1.Pod); ok && year == 2020 {
				o.Pods = append(o.Pods, p)
			}
		}
		out, _, err := o.Apply(m, "shop", remove, time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	base := read(&source.Objects{}, manifest, false, 2020)
	before, _ = source.Build(base, "")
	before.Generation = 7
	after, _ = source.Build(read(base, candidate, remove, 2021), "")
	after.Generation = 8
	return before, after
}

var seenAt = time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)

// in and out are lines of the ledgers of boards and of a client of it.
func in(peer string, s mesh.Security) mesh.Edge {
	e := mesh.Edge{EdgeKey: mesh.EdgeKey{Node: "shop/boards-1", Direction: mesh.InboundDir, Service: boardsHost, Port: 80, Security: s, Allowed: true}, Last: seenAt}
	if a, err := netip.ParseAddr(peer); err == nil {
		e.PeerNet = netip.PrefixFrom(a, a.BitLen())
	} else {
		e.Peer = peer
	}
	return e
}

func out(node string, s mesh.Security) mesh.Edge {
	return mesh.Edge{EdgeKey: mesh.EdgeKey{Node: node, Direction: mesh.OutboundDir, Peer: "shop/boards-1", Service: boardsHost, Port: 8080, Security: s, Allowed: true}, Last: seenAt}
}

// live is a connection of a client with a proxy, as both of its ends have it.
func live(client, addr, trace string, s mesh.Security, identity string) []truth.Connection {
	from, to := netip.AddrPortFrom(netip.MustParseAddr(addr), 4000), netip.MustParseAddrPort("10.0.0.3:80")
	server := truth.Connection{Node: "shop/boards-1", Connection: mesh.Connection{Trace: trace, Direction: mesh.InboundDir, Source: from, Destination: to,
		PeerWorkload: client, Service: boardsHost, Security: s, Allowed: true, LastSeen: seenAt}}
	if s == mesh.MutualTLS {
		server.PeerIdentity = identity
	}
	if identity == "" {
		return []truth.Connection{server}
	}
	c := truth.Connection{Node: client, Connection: mesh.Connection{Trace: trace, Direction: mesh.OutboundDir, Source: netip.AddrPortFrom(from.Addr(), 3000),
		Destination: netip.MustParseAddrPort("10.96.0.3:8080"), Local: from, Upstream: to, PeerWorkload: "shop/boards-1", Service: boardsHost,
		Cluster: "outbound|8080||" + boardsHost, Security: s, Allowed: true, LastSeen: seenAt}}
	if s == mesh.MutualTLS {
		c.PeerIdentity = "spiffe://cluster.local/ns/shop/sa/boards"
	}
	return []truth.Connection{server, c}
}

// busy are facts of a mesh where everybody calls boards as the plaza has it.
func busy() *truth.Facts {
	f := &truth.Facts{Since: seenAt, Generation: 7}
	for _, n := range []string{"bank/ruled-1", "shop/boards-1", "shop/web-1"} {
		f.Proxies = append(f.Proxies, truth.Reporter{Node: n, Connected: true})
	}
	f.Edges = []mesh.Edge{
		in("shop/web-1", mesh.Plaintext), out("shop/web-1", mesh.Plaintext),
		in("bank/ruled-1", mesh.MutualTLS), out("bank/ruled-1", mesh.MutualTLS),
		in("shop/legacy-1", mesh.Plaintext), in("192.0.2.1", mesh.PassedTLS),
	}
	f.Connections = append(f.Connections, live("shop/web-1", "10.0.0.1", "aa", mesh.Plaintext, "spiffe://cluster.local/ns/shop/sa/web")...)
	f.Connections = append(f.Connections, live("bank/ruled-1", "10.0.0.4", "bb", mesh.MutualTLS, "spiffe://cluster.local/ns/bank/sa/ruled")...)
	f.Connections = append(f.Connections, live("shop/legacy-1", "10.0.0.2", "cc", mesh.Plaintext, "")...)
	return f
}

func told(effects []truth.Effect) []string {
	var lines []string
	for _, e := range effects {
		lines = append(lines, fmt.Sprintf("%s %s %d%v: %s; %s", e.What, e.Source.ID(), e.Live, e.Lives, e.Why, e.Fix))
	}
	return lines
}

const strictShop = `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: shop}, spec: {mtls: {mode: STRICT}}}`
const mtlsShop = `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: mtls, namespace: shop}, spec: {host: boards, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}}`
const plainBank = `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: mtls, namespace: bank}, spec: {host: boards.shop.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}}}`

func TestWhatIf(t *testing.T) {
	const (
		strict  = "STRICT of PeerAuthentication shop/default (namespace) requires mutual TLS and the client spoke "
		sidecar = `give legacy-1.shop a sidecar: make its pod anew with the label sidecar.istio.io/inject: "true", `
		port    = "or let port 80 of boards-1.shop take plaintext (PERMISSIVE in portLevelMtls of a PeerAuthentication that selects it)"
	)
	for name, c := range map[string]struct {
		base, candidate string
		remove          bool
		facts           func(*truth.Facts)
		want            []string
	}{
		"nothing": {candidate: plaza},
		"STRICT": {candidate: strictShop, want: []string{
			"cut shop/legacy-1 1[cc]: " + strict + "plaintext; " + sidecar + port,
			"cut shop/web-1 1[aa]: " + strict + "plaintext; apply first a DestinationRule for " + boardsHost + " with trafficPolicy.tls.mode ISTIO_MUTUAL, or turn auto mTLS on",
			"cut 192.0.2.1 0[]: " + strict + "TLS of its own; call from inside the mesh or through a gateway, " + port,
		}},
		"STRICT and the client's rule": {candidate: strictShop + "\n---\n" + mtlsShop, want: []string{
			"cut shop/legacy-1 1[cc]: " + strict + "plaintext; " + sidecar + port,
			"cut 192.0.2.1 0[]: " + strict + "TLS of its own; call from inside the mesh or through a gateway, " + port,
			"upgraded shop/web-1 1[aa]: web-1.shop speaks mutual TLS, ISTIO_MUTUAL of DestinationRule shop/mtls (service); ",
		}},
		"only hasp verify was there": {candidate: strictShop + "\n---\n" + `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: none, namespace: shop}, spec: {}}`, facts: func(f *truth.Facts) {
			stranger, member := in("192.0.2.1", mesh.MutualTLS), in("192.0.2.1", mesh.MutualTLS)
			stranger.PeerIdentity = "spiffe://" + ca.StrangerDomain + "/ns/default/sa/stranger"
			member.PeerIdentity = mesh.Identity("cluster.local", "istio-system", mesh.VerifierAccount)
			refused := in("192.0.2.1", mesh.Plaintext)
			refused.Allowed = false
			f.Edges, f.Connections = []mesh.Edge{stranger, member, refused}, nil
		}},
		"hasp verify was there, and another from its address": {candidate: strictShop, facts: func(f *truth.Facts) {
			member := in("192.0.2.1", mesh.MutualTLS)
			member.PeerIdentity = mesh.Identity("cluster.local", "istio-system", mesh.VerifierAccount)
			f.Edges, f.Connections = []mesh.Edge{member, in("192.0.2.1", mesh.Plaintext)}, nil
		}, want: []string{
			"cut 192.0.2.1 0[]: " + strict + "plaintext; call from inside the mesh or through a gateway, " + port,
		}},
		"a bare pod that has ended": {candidate: strictShop, facts: func(f *truth.Facts) {
			f.Edges, f.Connections = []mesh.Edge{in("shop/once", mesh.Plaintext)}, nil
		}, want: []string{
			"cut shop/once 0[]: " + strict + `plaintext; make once.shop, whose pod has ended, anew with the label sidecar.istio.io/inject: "true", ` + port,
		}},
		"refused from where a stranger says it is hasp verify": {candidate: strictShop, facts: func(f *truth.Facts) {
			stranger, refused := in("192.0.2.1", mesh.MutualTLS), in("192.0.2.1", mesh.Plaintext)
			stranger.PeerIdentity, refused.Allowed = "spiffe://"+ca.StrangerDomain+"/ns/istio-system/sa/"+mesh.VerifierAccount, false
			f.Edges, f.Connections = []mesh.Edge{stranger, refused}, nil
		}, want: []string{
			"cut 192.0.2.1 0[]: " + strict + "plaintext; call from inside the mesh or through a gateway, " + port,
		}},
		"auto mTLS": {candidate: `{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: "enableAutoMtls: true"}}`, want: []string{
			"upgraded shop/web-1 0[]: web-1.shop speaks mutual TLS, mode AUTO; ",
		}},
		"DISABLE against mutual TLS": {candidate: strings.ReplaceAll(strictShop, "STRICT", "DISABLE"), want: []string{
			"cut bank/ruled-1 0[]: ruled-1.bank speaks mutual TLS, ISTIO_MUTUAL of DestinationRule bank/mtls (service), and boards-1.shop takes only plaintext, DISABLE of PeerAuthentication shop/default (namespace); " +
				"leave boards-1.shop PERMISSIVE until its clients speak plaintext (a DestinationRule for " + boardsHost + " with tls.mode DISABLE)",
		}},
		"a client's rule turns TLS off": {candidate: plainBank, want: []string{
			"weakened bank/ruled-1 0[]: ruled-1.bank speaks plaintext, DISABLE of DestinationRule bank/mtls (service); set tls.mode of DestinationRule bank/mtls (service) to ISTIO_MUTUAL first",
		}},
		"the rule goes while STRICT stays": {base: strictShop, candidate: plainBank, remove: true, facts: func(f *truth.Facts) { f.Edges, f.Connections = f.Edges[2:4], f.Connections[2:4] }, want: []string{
			"cut bank/ruled-1 0[]: " + strict + "plaintext; apply first a DestinationRule for " + boardsHost + " with trafficPolicy.tls.mode ISTIO_MUTUAL, or turn auto mTLS on",
		}},
		"STRICT goes": {base: strictShop, candidate: strictShop, remove: true, facts: func(f *truth.Facts) {
			f.Connections = f.Connections[2:4]
			for i := range f.Edges {
				f.Edges[i].Allowed = f.Edges[i].Security == mesh.MutualTLS
			}
		}, want: []string{
			"freed 192.0.2.1 0[]: was refused: " + strict + "TLS of its own; ",
			"freed shop/legacy-1 0[]: was refused: " + strict + "plaintext; ",
			"freed shop/web-1 0[]: was refused: " + strict + "plaintext; ",
		}},
		"only some identities": {candidate: `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: few, namespace: shop}, spec: {rules: [{from: [{source: {namespaces: [bank]}}, {source: {ipBlocks: [10.0.0.2]}}]}]}}`, want: []string{
			"cut shop/web-1 1[aa]: AuthorizationPolicy shop/few (namespace) does not allow 10.0.0.1, which proved no identity; web-1.shop proves no identity that AuthorizationPolicy shop/few (namespace) could go by: have it speak mutual TLS, or name its address in ipBlocks",
			"cut 192.0.2.1 0[]: AuthorizationPolicy shop/few (namespace) does not allow 192.0.2.1, which proved no identity; 192.0.2.1 proves no identity that AuthorizationPolicy shop/few (namespace) could go by: have it speak mutual TLS, or name its address in ipBlocks",
		}},
		"one identity is denied": {candidate: `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: nobody, namespace: shop}, spec: {action: DENY, rules: [{from: [{source: {principals: ["cluster.local/ns/bank/sa/ruled"]}}]}]}}`, want: []string{
			"cut bank/ruled-1 1[bb]: AuthorizationPolicy shop/nobody (namespace) denies spiffe://cluster.local/ns/bank/sa/ruled; make an exception for spiffe://cluster.local/ns/bank/sa/ruled in AuthorizationPolicy shop/nobody (namespace)",
		}},
		"a wrong name": {candidate: strings.Replace(mtlsShop, "mode: ISTIO_MUTUAL", `mode: ISTIO_MUTUAL, subjectAltNames: ["spiffe://cluster.local/ns/shop/sa/other"]`, 1), want: []string{
			"cut shop/web-1 1[aa]: web-1.shop speaks mutual TLS, ISTIO_MUTUAL of DestinationRule shop/mtls (service) to one of [spiffe://cluster.local/ns/shop/sa/other], and the server is spiffe://cluster.local/ns/shop/sa/boards; " +
				"correct subjectAltNames of DestinationRule shop/mtls (service), or leave them out",
		}},
		"TLS that nobody takes": {candidate: strings.Replace(mtlsShop, "ISTIO_MUTUAL", "SIMPLE", 1), want: []string{
			"cut shop/web-1 1[aa]: web-1.shop speaks TLS of its own, SIMPLE of DestinationRule shop/mtls (service), and boards-1.shop takes plaintext or mutual TLS with mesh certificates, nothing else; set tls.mode of DestinationRule shop/mtls (service) to ISTIO_MUTUAL first",
		}},
		"a rule that says nothing of tls": {base: strings.Replace(mtlsShop, ", trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}", "", 1), candidate: strictShop,
			facts: func(f *truth.Facts) { f.Edges, f.Connections = f.Edges[:2], nil }, want: []string{
				"cut shop/web-1 0[]: " + strict + "plaintext; set trafficPolicy.tls.mode ISTIO_MUTUAL in DestinationRule shop/mtls (service) first, which is the rule for " + boardsHost + " and says nothing of tls, or turn auto mTLS on",
			}},
		"past the sidecar": {candidate: strictShop + "\n---\n" + mtlsShop, facts: func(f *truth.Facts) { f.Edges, f.Connections = f.Edges[:1], nil }, want: []string{
			"cut shop/web-1 0[]: " + strict + "plaintext; find out why this traffic goes past the sidecar of web-1.shop (an annotation traffic.sidecar.istio.io/exclude..., or a process with the proxy's user id), " + port,
		}},
		"a client's proxy that does not report goes by its rules": {candidate: strictShop + "\n---\n" + mtlsShop, facts: func(f *truth.Facts) { f.Edges, f.Connections, f.Proxies = f.Edges[:1], nil, f.Proxies[:2] }, want: []string{
			"upgraded shop/web-1 0[]: web-1.shop speaks mutual TLS, ISTIO_MUTUAL of DestinationRule shop/mtls (service); ",
		}},
		"the service goes": {candidate: `{apiVersion: v1, kind: Service, metadata: {name: boards, namespace: shop}}`, remove: true, facts: func(f *truth.Facts) { f.Edges, f.Connections = f.Edges[2:4], nil }, want: []string{
			"cut bank/ruled-1 0[]: there is no service " + boardsHost + " on port 8080 any more; ",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := would(t, plaza+"\n---\n"+c.base, c.candidate, c.remove)
			f := busy()
			if c.facts != nil {
				c.facts(f)
			}
			a := truth.WhatIf(before, after, f)
			if diff := cmp.Diff(c.want, told(a.Effects)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWhatIfWarns(t *testing.T) {
	const subsets = `
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: subsets, namespace: shop}, spec: {host: boards, subsets: [{name: v1, labels: {version: v1}}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: boards, namespace: shop}, spec: {hosts: [boards], http: [{route: [{destination: {host: boards, subset: v1}}]}]}}
`
	for name, c := range map[string]struct {
		base, candidate string
		remove          bool
		facts           *truth.Facts
		want            []string
	}{
		"nothing": {candidate: plaza, want: []string{"the candidate changes nothing that the mesh goes by"}},
		"never seen": {candidate: strictShop, facts: &truth.Facts{}, want: []string{
			"never seen calling " + boardsHost + ":8080, and refused if they did: web-1.shop (no DestinationRule asks for TLS and auto mTLS is off)"}},
		"a subset goes": {base: subsets, candidate: strings.SplitN(subsets, "---", 2)[0], remove: true, want: []string{
			`VirtualService shop/boards routes to subset "v1" of ` + boardsHost + `, which no DestinationRule defines`}},
		"an older rule": {base: mtlsShop, candidate: `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: late, namespace: shop}, spec: {host: boards, trafficPolicy: {tls: {mode: DISABLE}}}}`, want: []string{
			"DestinationRule shop/late decides nothing: DestinationRule shop/mtls (service) is older and for the same host: its trafficPolicy is kept whole"}},
		"an older policy": {base: strictShop, candidate: strings.Replace(strictShop, "name: default", "name: also", 1), want: []string{
			"PeerAuthentication shop/also decides nothing: PeerAuthentication shop/default (namespace) is older"}},
		"nobody": {candidate: strings.ReplaceAll(strictShop, "namespace: shop", "namespace: empty"), want: []string{
			"PeerAuthentication empty/default decides nothing: there is no workload with a sidecar that it is about"}},
		"a host that is not there": {candidate: strings.ReplaceAll(mtlsShop, "host: boards", "host: bords"), want: []string{
			"DestinationRule shop/mtls decides nothing: no service that a client of the mesh sees is bords"}},
		"a service's port": {candidate: `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: boards, namespace: shop}, spec: {selector: {matchLabels: {app: boards}}, portLevelMtls: {8080: {mode: DISABLE}}}}`, want: []string{
			"PeerAuthentication shop/boards: no workload that it selects has port 8080 (portLevelMtls goes by the workload's ports, not a Service's)"}},
		"only tried out": {candidate: `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: tried, namespace: shop, annotations: {istio.io/dry-run: "true"}}, spec: {}}`, want: []string{
			"AuthorizationPolicy shop/tried decides nothing: it is only tried out, or there is no workload with a sidecar that it is about"}},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := would(t, plaza+"\n---\n"+c.base, c.candidate, c.remove)
			f := c.facts
			if f == nil {
				f = busy()
			}
			a := truth.WhatIf(before, after, f)
			if diff := cmp.Diff(c.want, a.Warnings); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// Of a Deployment it makes one line, and of proxies that are silent it says so.
func TestWhatIfGathersPods(t *testing.T) {
	pod := func(n int) string {
		return fmt.Sprintf(`
---
{apiVersion: v1, kind: Pod, metadata: {name: old-%d, namespace: shop, labels: {app: old, pod-template-hash: abc}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: old-abc, uid: u, controller: true}]}, spec: {containers: [{name: a, image: x}]}, status: {podIP: 10.0.1.%d}}`, n, n)
	}
	before, after := would(t, plaza+pod(1)+pod(2), strictShop, false)
	f := &truth.Facts{Proxies: []truth.Reporter{{Node: "shop/boards-1", Connected: true}, {Node: "shop/web-1"}},
		Edges:       []mesh.Edge{in("shop/old-1", mesh.Plaintext), in("shop/old-2", mesh.Plaintext)},
		Connections: append(live("shop/old-1", "10.0.1.1", "aa", mesh.Plaintext, ""), live("shop/old-2", "10.0.1.2", "bb", mesh.Plaintext, "")...)}
	a := truth.WhatIf(before, after, f)
	if len(a.Effects) != 1 || a.Effects[0].Live != 2 || !a.Hurt() {
		t.Fatalf("effects %+v", a.Effects)
	}
	if diff := cmp.Diff([]string{"shop/old-1", "shop/old-2"}, a.Effects[0].Pods); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"bank/ruled-1", "shop/web-1"}, a.Blind); diff != "" {
		t.Error(diff)
	}
}
