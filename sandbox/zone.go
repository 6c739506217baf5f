package sandbox

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ClusterDomain ends every name of a Service.
const ClusterDomain = "cluster.local"

// zone is what DNS knows of the Services: an immutable value, built anew when
// something changes. Names are lower case without the final dot.
type zone struct {
	addrs map[string][]netip.Addr // may be empty: the name exists, nobody is there
	srv   map[string][]service
	alias map[string]string // ExternalName Services
}

// service is one SRV answer.
type service struct {
	port   uint16
	target string
}

// zoneOf follows the Kubernetes DNS specification: SERVICE.NAMESPACE.svc.DOMAIN
// is the Service's virtual addresses, or for a headless Service its pods';
// HOSTNAME.SERVICE.NAMESPACE.svc.DOMAIN a pod that has a hostname and names the
// Service as its subdomain; _PORT._PROTOCOL.SERVICE... is SRV.
func zoneOf(services []*corev1.Service, pods []*corev1.Pod) *zone {
	z := &zone{addrs: map[string][]netip.Addr{}, srv: map[string][]service{}, alias: map[string]string{}}
	for _, svc := range services {
		name := serviceName(svc)
		switch {
		case svc.Spec.Type == corev1.ServiceTypeExternalName:
			z.alias[name] = strings.ToLower(strings.TrimSuffix(svc.Spec.ExternalName, "."))
		case svc.Spec.ClusterIP == corev1.ClusterIPNone:
			z.addHeadless(svc, name, backends(svc, pods))
		default:
			z.addrs[name] = virtualAddresses(svc)
			for _, p := range svc.Spec.Ports {
				z.addSRV(p, name, service{uint16(p.Port), name})
			}
		}
	}
	return z
}

func serviceName(svc *corev1.Service) string {
	return svc.Name + "." + svc.Namespace + ".svc." + ClusterDomain
}

func (z *zone) addHeadless(svc *corev1.Service, name string, pods []*corev1.Pod) {
	z.addrs[name] = nil
	for _, pod := range pods {
		addrs := podAddresses(pod)
		z.addrs[name] = append(z.addrs[name], addrs...)
		host := strings.NewReplacer(".", "-", ":", "-").Replace(pod.Status.PodIP)
		if pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name {
			host = pod.Spec.Hostname
		}
		host += "." + name
		z.addrs[host] = addrs
		for _, p := range svc.Spec.Ports {
			if port := targetPort(pod, p); port != 0 {
				z.addSRV(p, name, service{port, host})
			}
		}
	}
	slices.SortFunc(z.addrs[name], netip.Addr.Compare)
}

func (z *zone) addSRV(p corev1.ServicePort, name string, s service) {
	if p.Name == "" {
		return
	}
	key := "_" + p.Name + "._" + strings.ToLower(string(protocolOf(p.Protocol))) + "." + name
	z.srv[key] = append(z.srv[key], s)
}

// has reports whether a name exists, whatever kind of record is asked for.
func (z *zone) has(name string) bool {
	_, a := z.addrs[name]
	_, s := z.srv[name]
	_, c := z.alias[name]
	return a || s || c
}

// inCluster reports whether a name belongs to the zone, be it there or not.
func inCluster(name string) bool {
	return name == ClusterDomain || strings.HasSuffix(name, "."+ClusterDomain)
}
