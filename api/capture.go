package api

import (
	"errors"
	"math"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Istio's annotations that say which connections of a pod go to its sidecar.
const (
	captureDomain = "traffic.sidecar.istio.io/"

	IncludeInboundPortsKey   = captureDomain + "includeInboundPorts"
	ExcludeInboundPortsKey   = captureDomain + "excludeInboundPorts"
	IncludeOutboundPortsKey  = captureDomain + "includeOutboundPorts"
	ExcludeOutboundPortsKey  = captureDomain + "excludeOutboundPorts"
	IncludeOutboundRangesKey = captureDomain + "includeOutboundIPRanges"
	ExcludeOutboundRangesKey = captureDomain + "excludeOutboundIPRanges"

	// InterceptionModeKey is Istio's choice between ways to capture. Only
	// REDIRECT is here.
	InterceptionModeKey = "sidecar.istio.io/interceptionMode"
)

// The sidecar in a pod, as in Istio.
const (
	ProxyContainer = "istio-proxy"
	// InitContainer captures from inside the pod, where that is allowed.
	InitContainer = "istio-init"
	ProxyUID      = 1337
	// ProxyHealthPort and ProxyMetricsPort answer kubelets and Prometheus past
	// the mesh.
	ProxyHealthPort  = 15021
	ProxyMetricsPort = 15090
)

// CapturePlan says which connections of one pod go to its sidecar. Lists are
// sorted. What is excluded is never captured; of the rest an include list that
// is nil captures everything (Istio's "*"), and one that is there only what it
// names, which is nothing when it is empty.
type CapturePlan struct {
	// UID is the sidecar's user, whose own connections are left alone.
	UID uint32 `json:"uid"`

	IncludeInboundPorts []uint16 `json:"includeInboundPorts"`
	// ExcludeInboundPorts holds the sidecar's own ports for health and metrics
	// too.
	ExcludeInboundPorts []uint16 `json:"excludeInboundPorts"`
	// IncludeOutboundPorts are captured whatever IncludeOutboundRanges say of
	// the address; nil adds nothing here.
	IncludeOutboundPorts  []uint16       `json:"includeOutboundPorts"`
	ExcludeOutboundPorts  []uint16       `json:"excludeOutboundPorts"`
	IncludeOutboundRanges []netip.Prefix `json:"includeOutboundRanges"`
	ExcludeOutboundRanges []netip.Prefix `json:"excludeOutboundRanges"`

	// Probes are the kubelet's questions that meet the capture, and ProbePorts
	// the distinct ports of those that merely connect (tcpSocket).
	Probes     []NetworkProbe `json:"-"`
	ProbePorts []uint16       `json:"probePorts"`
}

// PlanCapture reads from a pod what to capture: Istio's annotations under
// traffic.sidecar.istio.io/, the probes of its containers, and the user of the
// container istio-proxy where there is one (1337 otherwise). The same pod gives
// the same plan to whoever asks: the injector, and the CNI plugin later. The
// error joins one [PodError] for each annotation that cannot be followed.
func PlanCapture(pod *corev1.Pod) (CapturePlan, error) {
	r := captureReader{annotations: pod.Annotations}
	r.unsupported()
	p := CapturePlan{
		UID:                   r.uid(&pod.Spec),
		IncludeInboundPorts:   included(&r, IncludeInboundPortsKey, r.ports),
		ExcludeInboundPorts:   r.ports(ExcludeInboundPortsKey),
		IncludeOutboundPorts:  r.ports(IncludeOutboundPortsKey),
		ExcludeOutboundPorts:  r.ports(ExcludeOutboundPortsKey),
		IncludeOutboundRanges: included(&r, IncludeOutboundRangesKey, r.ranges),
		ExcludeOutboundRanges: r.ranges(ExcludeOutboundRangesKey),
	}
	r.portConflicts(IncludeInboundPortsKey, p.IncludeInboundPorts, ExcludeInboundPortsKey, p.ExcludeInboundPorts)
	r.portConflicts(IncludeOutboundPortsKey, p.IncludeOutboundPorts, ExcludeOutboundPortsKey, p.ExcludeOutboundPorts)
	r.rangeConflicts(p.IncludeOutboundRanges, p.ExcludeOutboundRanges)
	if len(r.errs) > 0 {
		return CapturePlan{}, errors.Join(r.errs...)
	}
	p.ExcludeInboundPorts = distinct(append(p.ExcludeInboundPorts, ProxyHealthPort, ProxyMetricsPort))
	probes, _ := NetworkProbes(&pod.Spec)
	for _, q := range probes {
		if !p.CapturesInbound(q.Port) {
			continue // the kubelet reaches the application itself
		}
		p.Probes = append(p.Probes, q)
		if q.Handler.TCPSocket != nil {
			p.ProbePorts = append(p.ProbePorts, q.Port)
		}
	}
	p.ProbePorts = distinct(p.ProbePorts)
	return p, nil
}

// CapturesInbound reports whether connections to a port of the pod go to the
// sidecar.
func (p CapturePlan) CapturesInbound(port uint16) bool {
	if slices.Contains(p.ExcludeInboundPorts, port) {
		return false
	}
	return p.IncludeInboundPorts == nil || slices.Contains(p.IncludeInboundPorts, port)
}

// uid is the user of the sidecar: on OpenShift it is one of the namespace's own
// range.
func (r *captureReader) uid(spec *corev1.PodSpec) uint32 {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for _, c := range list {
			if c.Name != ProxyContainer || c.SecurityContext == nil || c.SecurityContext.RunAsUser == nil {
				continue
			}
			uid := *c.SecurityContext.RunAsUser
			if uid <= 0 || uid > math.MaxUint32 {
				r.errs = append(r.errs, WrongPod("spec", "container %s runs as user %d, by which its own connections cannot be told from the application's", ProxyContainer, uid))
				return 0
			}
			return uint32(uid)
		}
	}
	return ProxyUID
}

func distinct(ports []uint16) []uint16 {
	slices.Sort(ports)
	return slices.Compact(ports)
}
