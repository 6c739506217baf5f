package xds_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"hasp/mesh"
	"hasp/xds"
)

// large is a sidecar in a mesh of 300 services with 3 endpoints each.
func large() *mesh.ProxyConfig {
	c := lab()
	c.Outbound = mesh.Outbound{}
	c.Peers = nil
	for i := range 300 {
		host := fmt.Sprintf("svc-%03d.shop.svc.cluster.local", i)
		cl := mesh.Cluster{Name: "outbound|8080||" + host, Hostname: host, Namespace: "shop", Port: 8080, Protocol: mesh.HTTP, TLS: mesh.ClientTLS{Auto: true, SNI: "outbound_.8080_._." + host}}
		for j := range 3 {
			addr := netip.AddrFrom4([4]byte{10, 77, byte(i), byte(j)})
			cl.Endpoints = append(cl.Endpoints, mesh.Endpoint{ServicePort: 8080, Addr: addr, Port: 8080, Workload: fmt.Sprintf("shop/svc-%03d-%d", i, j),
				Identity: mesh.Identity("cluster.local", "shop", host), Sidecar: true, Labels: map[string]string{"app": host}})
			c.Peers = append(c.Peers, mesh.Peer{Addr: addr, Workload: fmt.Sprintf("shop/svc-%03d-%d", i, j), Identity: mesh.Identity("cluster.local", "shop", host), Sidecar: true})
		}
		c.Outbound.Clusters = append(c.Outbound.Clusters, cl)
		c.Outbound.Listeners = append(c.Outbound.Listeners, mesh.Listener{Addr: netip.AddrFrom4([4]byte{10, 96, byte(i / 256), byte(i)}), Port: 8080, Cluster: cl.Name})
	}
	return c
}

func BenchmarkEncode(b *testing.B) {
	c := large()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := xds.Encode(c); err != nil {
			b.Fatal(err)
		}
	}
}

// A report of as many connections as a proxy tells at once.
func BenchmarkReport(b *testing.B) {
	g := gen{rand.New(rand.NewPCG(1, 1))}
	r := &mesh.Report{Node: "shop/boards-1"}
	for range 500 {
		r.Connections = append(r.Connections, g.connection())
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := xds.EncodeReport(r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		m, err := xds.EncodeReport(r)
		if err != nil {
			b.Fatal(err)
		}
		sent := wire(b, m[0])
		b.ReportAllocs()
		for b.Loop() {
			if _, err := xds.DecodeReport(sent); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	r, err := xds.Encode(large())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := xds.Decode(r); err != nil {
			b.Fatal(err)
		}
	}
}
