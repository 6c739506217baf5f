package sandbox

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Virtual is one port of one virtual address of a Service, and the pods that
// serve it.
type Virtual struct {
	Addr     netip.Addr
	Protocol corev1.Protocol // TCP or UDP
	Port     uint16
	To       []netip.AddrPort // ready, sorted; empty: connections are refused
}

// Balance is how the fabric spreads connections to Services over pods: what
// kube-proxy does, as a value.
type Balance []Virtual

// String has a line for each virtual port.
func (b Balance) String() string {
	var s strings.Builder
	for _, v := range b {
		to := "nobody"
		if len(v.To) > 0 {
			to = fmt.Sprint(v.To)
		}
		fmt.Fprintf(&s, "%s %s -> %s\n", v.Protocol, netip.AddrPortFrom(v.Addr, v.Port), to)
	}
	return s.String()
}

// probeBalance is an example of everything a Balance can hold.
var probeBalance = Balance{
	{Addr: netip.MustParseAddr("10.96.0.10"), Protocol: corev1.ProtocolTCP, Port: 80, To: []netip.AddrPort{netip.MustParseAddrPort("10.77.0.2:8080"), netip.MustParseAddrPort("10.77.0.3:8080")}},
	{Addr: netip.MustParseAddr("fd96::10"), Protocol: corev1.ProtocolUDP, Port: 53, To: []netip.AddrPort{netip.MustParseAddrPort("[fd77::2]:53")}},
}

// balanceOf joins Services with the pods that they select.
func balanceOf(services []*corev1.Service, pods []*corev1.Pod) Balance {
	var b Balance
	for _, svc := range services {
		vips := virtualAddresses(svc)
		if len(vips) == 0 {
			continue
		}
		backing := backends(svc, pods)
		for _, port := range svc.Spec.Ports {
			if p := protocolOf(port.Protocol); p != corev1.ProtocolTCP && p != corev1.ProtocolUDP {
				continue
			}
			for _, vip := range vips {
				b = append(b, Virtual{Addr: vip, Protocol: protocolOf(port.Protocol), Port: uint16(port.Port), To: endpoints(backing, port, vip.Is4())})
			}
		}
	}
	slices.SortFunc(b, func(x, y Virtual) int {
		return cmp.Or(x.Addr.Compare(y.Addr), cmp.Compare(x.Port, y.Port), cmp.Compare(x.Protocol, y.Protocol))
	})
	return b
}

// virtualAddresses are those of a Service; none for a headless one.
func virtualAddresses(svc *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, s := range append([]string{svc.Spec.ClusterIP}, svc.Spec.ClusterIPs...) {
		if a, err := netip.ParseAddr(s); err == nil && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// backends are the pods that serve a Service now.
func backends(svc *corev1.Service, pods []*corev1.Pod) []*corev1.Pod {
	if len(svc.Spec.Selector) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	var out []*corev1.Pod
	for _, p := range pods {
		if p.Namespace == svc.Namespace && selector.Matches(labels.Set(p.Labels)) && serving(p, svc.Spec.PublishNotReadyAddresses) {
			out = append(out, p)
		}
	}
	return out
}

func serving(p *corev1.Pod, evenNotReady bool) bool {
	if p.Status.PodIP == "" || finished(p.Status.Phase) {
		return false
	}
	return evenNotReady || p.DeletionTimestamp == nil && isReady(p)
}

func finished(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// endpoints are the addresses of pods of one family for a Service's port.
func endpoints(pods []*corev1.Pod, port corev1.ServicePort, is4 bool) []netip.AddrPort {
	var out []netip.AddrPort
	for _, p := range pods {
		target := targetPort(p, port)
		if target == 0 {
			continue
		}
		for _, a := range podAddresses(p) {
			if a.Is4() == is4 {
				out = append(out, netip.AddrPortFrom(a, target))
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

func podAddresses(p *corev1.Pod) []netip.Addr {
	var out []netip.Addr
	for _, ip := range append([]corev1.PodIP{{IP: p.Status.PodIP}}, p.Status.PodIPs...) {
		if a, err := netip.ParseAddr(ip.IP); err == nil && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// targetPort is where a pod serves a Service's port: a number, a name that one
// of its containers gives to a port, or by default the Service's own number. 0
// means that the pod has no port of that name.
func targetPort(p *corev1.Pod, port corev1.ServicePort) uint16 {
	switch {
	case port.TargetPort.Type == intstr.Int && port.TargetPort.IntVal == 0,
		port.TargetPort.Type == intstr.String && port.TargetPort.StrVal == "":
		return uint16(port.Port)
	case port.TargetPort.Type == intstr.Int:
		return uint16(port.TargetPort.IntVal)
	}
	return namedPort(p, port.TargetPort.StrVal, protocolOf(port.Protocol))
}

func namedPort(p *corev1.Pod, name string, protocol corev1.Protocol) uint16 {
	for _, c := range p.Spec.Containers {
		for _, cp := range c.Ports {
			if cp.Name == name && protocolOf(cp.Protocol) == protocol {
				return uint16(cp.ContainerPort)
			}
		}
	}
	return 0
}

func protocolOf(p corev1.Protocol) corev1.Protocol { return cmp.Or(p, corev1.ProtocolTCP) }
