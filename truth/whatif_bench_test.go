package truth_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"hasp/mesh"
	"hasp/truth"
)

// BenchmarkWhatIf is a question about a mesh of 1000 pods and 200 services where
// every pod talks to ten others.
func BenchmarkWhatIf(b *testing.B) {
	const pods, services = 1000, 200
	var text strings.Builder
	text.WriteString("{apiVersion: v1, kind: Namespace, metadata: {name: ns0}}")
	for i := range pods {
		fmt.Fprintf(&text, `
---
{apiVersion: v1, kind: Pod, metadata: {name: p%d, namespace: ns%d, labels: {app: s%d}}, spec: {serviceAccountName: s%d, containers: [{name: a, image: x, ports: [{containerPort: 80}]}, {name: istio-proxy, image: x}]}, status: {podIP: 10.0.%d.%d}}`,
			i, i%services%20, i%services, i%services, i/250, i%250+1)
	}
	for i := range services {
		fmt.Fprintf(&text, `
---
{apiVersion: v1, kind: Service, metadata: {name: s%d, namespace: ns%d}, spec: {clusterIP: 10.96.0.%d, selector: {app: s%d}, ports: [{name: tcp, port: 80}]}}`, i, i%20, i+1, i)
	}
	before, after := would(b, text.String(), "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: istio-system}, spec: {mtls: {mode: STRICT}}}", false)
	f := &truth.Facts{}
	key := func(i int) string { return fmt.Sprintf("ns%d/p%d", i%services%20, i) }
	for i := range pods {
		f.Proxies = append(f.Proxies, truth.Reporter{Node: key(i), Connected: true})
		for n := range 10 {
			server := (i*7 + n*13 + 1) % pods
			host := fmt.Sprintf("s%d.ns%d.svc.cluster.local", server%services, server%services%20)
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(server / 250), byte(server%250 + 1)}), 80)
			out := mesh.Edge{EdgeKey: mesh.EdgeKey{Node: key(i), Direction: mesh.OutboundDir, Peer: key(server), Service: host, Port: 80, Security: mesh.MutualTLS, Allowed: true}, Last: seenAt}
			in := mesh.Edge{EdgeKey: mesh.EdgeKey{Node: key(server), Direction: mesh.InboundDir, Peer: key(i), Service: host, Port: 80, Security: mesh.MutualTLS, Allowed: true}, Last: seenAt}
			f.Edges = append(f.Edges, out, in)
			f.Connections = append(f.Connections, truth.Connection{Node: key(server), Connection: mesh.Connection{Direction: mesh.InboundDir, PeerWorkload: key(i),
				Destination: at, Security: mesh.MutualTLS, PeerIdentity: fmt.Sprintf("spiffe://cluster.local/ns/ns%d/sa/s%d", i%services%20, i%services), Service: host, Trace: fmt.Sprint(i, n)}})
		}
	}
	b.ResetTimer()
	for b.Loop() {
		truth.WhatIf(before, after, f)
	}
}
