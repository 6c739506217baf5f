package compile_test

import (
	"fmt"
	"net/netip"
	"testing"

	"hasp/api"
	"hasp/compile"
	"hasp/mesh"
	"hasp/world"
	"hasp/xds"
)

// city is a World of many services in namespaces of 100, each with a few workloads.
func city(services, each int) *world.World {
	m := api.DefaultMeshConfig()
	m.EnableAutoMtls = true
	w := &world.World{Generation: 1, Mesh: m}
	for i := range services {
		namespace, name := fmt.Sprintf("town-%04d", i/100), fmt.Sprintf("service-%02d", i%100)
		s := &mesh.Service{Namespace: namespace, Name: name, Hostname: name + "." + namespace + ".svc.cluster.local",
			Selector: map[string]string{"app": name}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
			Ports: []mesh.ServicePort{{Name: "http", Number: 80, Protocol: mesh.HTTP, TargetPort: 8080}}}
		for j := range each {
			n := i*each + j
			wl := &mesh.Workload{Namespace: namespace, Name: fmt.Sprintf("%s-7d4b9c6f5d-%05d", name, j), Owner: name, ServiceAccount: name,
				Labels: map[string]string{"app": name}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(100 + n>>16), byte(n >> 8), byte(n)})},
				Role: mesh.RoleSidecar, Ready: true}
			w.Workloads = append(w.Workloads, wl)
			s.Endpoints = append(s.Endpoints, mesh.Endpoint{ServicePort: 80, Addr: wl.Addresses[0], Port: 8080, Workload: wl.Key(), Identity: wl.Identity(m.TrustDomain), Sidecar: true})
		}
		w.Services = append(w.Services, s)
	}
	w.Index()
	return w
}

// BenchmarkTold is what one proxy is told of 10,000 services with 50,000 workloads,
// whole and on demand of one that calls 20 services and has 20 callers; in bytes, and
// in the time of compiling and encoding it once.
func BenchmarkTold(b *testing.B) {
	w := city(10_000, 5)
	d := mesh.Demand{Services: map[netip.AddrPort]bool{}, Peers: map[netip.Addr]bool{}}
	for i := range 20 {
		d.Services[netip.AddrPortFrom(w.Services[i*499].Addresses[0], 80)] = true
		d.Peers[w.Workloads[i*2477].Addresses[0]] = true
	}
	for _, way := range []struct {
		name string
		tell func(*compile.Compiler) (*mesh.ProxyConfig, error)
	}{
		{"whole", func(c *compile.Compiler) (*mesh.ProxyConfig, error) {
			cfg, _ := c.For(w.Workloads[0])
			return cfg, nil
		}},
		{"onDemand", func(c *compile.Compiler) (*mesh.ProxyConfig, error) {
			return compile.Join(c.OnDemand(w.Workloads[0], d))
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			bytes, resources := 0, 0
			for b.Loop() {
				cfg, err := way.tell(compile.New(w))
				if err != nil {
					b.Fatal(err)
				}
				r, err := xds.Encode(cfg)
				if err != nil {
					b.Fatal(err)
				}
				bytes, resources = 0, 0
				for _, m := range r {
					for _, res := range m {
						resources++
						bytes += len(res.Body.GetValue())
					}
				}
			}
			b.ReportMetric(float64(bytes), "bytes/proxy")
			b.ReportMetric(float64(resources), "resources/proxy")
		})
	}
}
