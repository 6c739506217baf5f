package source

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	networkingapi "istio.io/api/networking/v1alpha3"
	networking "istio.io/client-go/pkg/apis/networking/v1"

	"hasp/mesh"
)

// entryHost is one host of a ServiceEntry.
type entryHost struct {
	namespace, name string
	host            int
}

// servicesOf makes one service of each host of a ServiceEntry. auto are the addresses
// of hosts without one.
func (s *space) servicesOf(e *networking.ServiceEntry, auto map[entryHost]netip.Addr, trustDomain string) []*mesh.Service {
	var out []*mesh.Service
	addresses, _ := entryAddresses(e)
	for i, host := range e.Spec.Hosts {
		svc := &mesh.Service{
			Namespace: e.Namespace, Name: e.Name, Hostname: host, Labels: e.Labels,
			Addresses: addresses, ExportTo: e.Spec.ExportTo,
			External:        e.Spec.Location == networkingapi.ServiceEntry_MESH_EXTERNAL,
			Resolution:      e.Spec.Resolution.String(),
			SubjectAltNames: e.Spec.SubjectAltNames,
		}
		for _, p := range e.Spec.Ports {
			svc.Ports = append(svc.Ports, mesh.ServicePort{
				Name: p.Name, Number: uint16(p.Number), Protocol: protocol(p.Protocol),
				TargetPort: uint16(cmp.Or(p.TargetPort, p.Number)),
			})
		}
		if a, ok := auto[entryHost{e.Namespace, e.Name, i}]; ok {
			svc.Addresses = []netip.Addr{a}
		}
		svc.Endpoints = entryEndpoints(e, svc, s.hosts.sorted(), s.workloads, trustDomain)
		out = append(out, svc)
	}
	return out
}

// entryAddresses are those that a ServiceEntry says, and what cannot be used of it.
func entryAddresses(e *networking.ServiceEntry) ([]netip.Addr, []Problem) {
	var out []netip.Addr
	var problems []Problem
	origin := mesh.Origin{Kind: "ServiceEntry", Namespace: e.Namespace, Name: e.Name}
	for _, s := range e.Spec.Addresses {
		a, err := netip.ParseAddr(s)
		if err != nil {
			if p, perr := netip.ParsePrefix(s); perr == nil && p.IsSingleIP() {
				a = p.Addr()
			} else {
				problems = append(problems, Problem{origin, fmt.Sprintf("spec.addresses: %q is not one address; hasp routes by address, write each address", s)})
				continue
			}
		}
		if a.IsUnspecified() || a.Zone() != "" {
			problems = append(problems, Problem{origin, fmt.Sprintf("spec.addresses: %q is not the address of one host; write the address that clients connect to", s)})
			continue
		}
		out = append(out, a.Unmap())
	}
	return out, problems
}

// giveAddresses to the hosts that have none. Which one a host gets may depend on all
// the others.
func (b *Builder) giveAddresses() {
	b.addresses = map[entryHost]netip.Addr{}
	taken := map[netip.Addr]bool{}
	for _, name := range b.order {
		s := b.spaces[name]
		for _, e := range s.entries.sorted() {
			s.entriesChanged = true
			if own, _ := entryAddresses(e); len(own) > 0 || e.Spec.Resolution == networkingapi.ServiceEntry_NONE {
				continue
			}
			for i, host := range e.Spec.Hosts {
				b.addresses[entryHost{e.Namespace, e.Name, i}] = autoAddress(host, taken)
			}
		}
	}
}

// autoAddress gives a ServiceEntry host without addresses one of its own in
// 240.240.0.0/16, the range Istio allocates from, so that two of them on one
// port can be told apart. The address follows from the name; a clash takes the
// next one free.
func autoAddress(host string, taken map[netip.Addr]bool) netip.Addr {
	h := fnv.New32a()
	h.Write([]byte(host))
	n := h.Sum32()
	for {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 240<<24|240<<16|n&0xffff)
		a := netip.AddrFrom4(b)
		if !taken[a] && b[3] != 0 && b[3] != 255 {
			taken[a] = true
			return a
		}
		n++
	}
}

func entryEndpoints(e *networking.ServiceEntry, svc *mesh.Service, workloadEntries []*networking.WorkloadEntry, workloads []*mesh.Workload, trustDomain string) []mesh.Endpoint {
	var out []mesh.Endpoint
	add := func(we *networkingapi.WorkloadEntry, name string) {
		for _, p := range svc.Ports {
			out = append(out, entryEndpoint(we, e.Namespace, name, p, trustDomain))
		}
	}
	for _, we := range e.Spec.Endpoints {
		add(we, "")
	}
	if sel := e.Spec.WorkloadSelector; sel != nil {
		for _, we := range workloadEntries {
			if we.Namespace == e.Namespace && selects(sel.Labels, we.Spec.Labels) {
				add(&we.Spec, we.Namespace+"/"+we.Name)
			}
		}
		for _, w := range workloads {
			if w.Namespace == e.Namespace && w.Ready && selects(sel.Labels, w.Labels) {
				out = append(out, endpoints(svc, w, trustDomain)...)
			}
		}
	}
	if len(out) == 0 && (e.Spec.Resolution == networkingapi.ServiceEntry_DNS || e.Spec.Resolution == networkingapi.ServiceEntry_DNS_ROUND_ROBIN) {
		for _, p := range svc.Ports {
			out = append(out, mesh.Endpoint{ServicePort: p.Number, Host: svc.Hostname, Port: p.TargetPort})
		}
	}
	sortEndpoints(out)
	return slices.CompactFunc(out, samePlace)
}

// tlsModeLabel is how a WorkloadEntry says that a proxy terminates mesh TLS
// there.
const tlsModeLabel = "security.istio.io/tlsMode"

func entryEndpoint(we *networkingapi.WorkloadEntry, namespace, name string, p mesh.ServicePort, trustDomain string) mesh.Endpoint {
	ep := mesh.Endpoint{ServicePort: p.Number, Port: p.TargetPort, Workload: name, Labels: we.Labels, Sidecar: we.Labels[tlsModeLabel] == "istio"}
	if n, ok := we.Ports[p.Name]; ok {
		ep.Port = uint16(n)
	}
	if a, err := netip.ParseAddr(we.Address); err == nil {
		ep.Addr = a
	} else {
		ep.Host = we.Address
	}
	if we.ServiceAccount != "" || ep.Sidecar {
		ep.Identity = mesh.Identity(trustDomain, namespace, we.ServiceAccount)
	}
	return ep
}
