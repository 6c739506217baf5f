// Package cni captures pods' connections from the node, for pods that may not
// do so themselves (OpenShift's restricted pods have no NET_ADMIN).
//
// Two halves run on each node. [Plugin] is what the container runtime starts
// for each new pod, after the plugin that gave the pod its network; it asks the
// agent what to capture and makes it so in the pod's network namespace, before
// any container of the pod runs. [Run] is the agent: it knows the pods of its
// node, answers on a Unix socket, and keeps the plugin installed ([Installer]).
//
// A pod that may be in the mesh never starts uncaptured: when the agent does not
// answer, the plugin fails and the kubelet tries again. Only pods of the
// namespaces that the plugin's own configuration excludes pass without a
// question, so that a node can boot.
//
// What a DaemonSet of the agent needs:
//
//   - root without any capability, on a read-only root file system: it writes
//     into directories of the node that belong to root. The plugin's own rights
//     are the container runtime's.
//   - hostPath volumes: the node's directory of CNI programs at /host/opt/cni/bin,
//     that of network configurations at /host/etc/cni/net.d, and
//     /var/run/hasp-cni at the same path, where the socket is.
//   - pods: get, list and watch, in all namespaces; it lists and watches those
//     of its node only, and gets one that its informer does not have yet.
//   - its own DaemonSet (by resourceNames): list and watch, to tell an uninstall
//     from a restart when it is told to stop.
//   - the name of its node, in NODE_NAME by fieldRef spec.nodeName.
//   - readiness: exec of "hasp-cni ready". It listens on no port.
package cni

import (
	"hasp/api"
	"hasp/capture"
	"hasp/mesh"
)

const (
	// Name is the plugin's type in network configurations, and the name of its
	// program in the node's directory of such programs.
	Name = "hasp-cni"
	// Socket is where the agent answers, on the node and in its container.
	Socket = "/var/run/hasp-cni/cni.sock"
)

// Pod is a pod as the container runtime names it in CNI_ARGS.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// UID tells a pod from an earlier one of the same name. Old runtimes do not
	// say it.
	UID string `json:"uid,omitempty"`
}

// String is the pod as kubectl names it.
func (p Pod) String() string { return p.Namespace + "/" + p.Name }

// Answer is what the agent says of a pod.
type Answer struct {
	// Capture is nil when nothing is to be captured.
	Capture *api.CapturePlan `json:"capture,omitempty"`
	// Why not.
	Why string `json:"why,omitempty"`
}

// The sidecar's ports, as in Istio.
const (
	outboundPort = 15001
	inboundPort  = 15006
)

// spec is the plan in the capture's terms.
func spec(p *api.CapturePlan) capture.Spec {
	return capture.Spec{
		OutboundPort:         outboundPort,
		InboundPort:          inboundPort,
		ExemptUID:            p.UID,
		IncludeInboundPorts:  p.IncludeInboundPorts,
		ExcludeInboundPorts:  p.ExcludeInboundPorts,
		Doors:                mesh.Doors(p.ProbePorts),
		IncludeCIDRs:         p.IncludeOutboundRanges,
		IncludeOutboundPorts: p.IncludeOutboundPorts,
		ExcludeOutboundPorts: p.ExcludeOutboundPorts,
		ExcludeCIDRs:         p.ExcludeOutboundRanges,
	}
}
