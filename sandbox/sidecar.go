package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hasp/api"
	"hasp/capture"
	"hasp/mesh"
)

// NodeName is the one node's name.
const NodeName = "hasp"

// ProxyContainer is the sidecar's name among a pod's containers, as in Istio.
const ProxyContainer = api.ProxyContainer

// The proxy's ports, as in Istio.
const (
	proxyOutbound = 15001
	proxyInbound  = 15006
)

// sidecar reports whether the pod is to be run with a sidecar: it was given one
// when it was created, or it asks for one and was created when nobody marked
// pods.
func (s *Sandbox) sidecar(w *watch, obj *corev1.Pod) (bool, error) {
	if s.cfg.ProxyBinary == "" {
		return false, nil
	}
	if obj.Annotations[api.InjectStatusKey] != "" {
		return true, nil
	}
	return s.wantsSidecar(w, obj)
}

// wantsSidecar reports whether the pod asks for a sidecar and can have one.
func (s *Sandbox) wantsSidecar(w *watch, obj *corev1.Pod) (bool, error) {
	if s.cfg.ProxyBinary == "" {
		return false, nil
	}
	ns, err := w.namespaceLabels(obj.Namespace)
	if err != nil {
		return false, err
	}
	return s.cfg.Images.wantSidecar(obj, ns), nil
}

// wantSidecar follows Istio (api.Injected). Pods on the host's network and
// gateways have none.
func (im Images) wantSidecar(obj *corev1.Pod, namespaceLabels map[string]string) bool {
	if obj.Spec.HostNetwork {
		return false
	}
	for _, c := range obj.Spec.Containers {
		if image, err := im.Find(c.Image); err == nil && image.Gateway {
			return false
		}
	}
	return api.Injected(obj.Annotations, obj.Labels, namespaceLabels)
}

// MarkSidecar leaves on a new pod that will run with a sidecar the annotation
// that says so, as Istio's injection does: from then on the sidecar is a fact,
// whatever becomes of the labels of the namespace. (The container itself is in
// the spec for a Deployment's pods, for others in the status alone, since a
// client that made a pod of one container counts on that.)
func (im Images) MarkSidecar(obj *corev1.Pod, namespaceLabels map[string]string) {
	if obj.Annotations[api.InjectStatusKey] == "" && im.wantSidecar(obj, namespaceLabels) {
		metav1.SetMetaDataAnnotation(&obj.ObjectMeta, api.InjectStatusKey, `{"containers":["`+ProxyContainer+`"]}`)
	}
}

// inject adds the sidecar to a pod that wants one, as the last of its
// containers, so that everybody sees it; kubectl is told which container is
// meant when none is named.
func inject(obj *corev1.Pod) {
	const defaultContainer = "kubectl.kubernetes.io/default-container"
	if obj.Annotations == nil {
		obj.Annotations = map[string]string{}
	}
	if obj.Annotations[defaultContainer] == "" && len(obj.Spec.Containers) > 0 {
		obj.Annotations[defaultContainer] = obj.Spec.Containers[0].Name
	}
	obj.Spec.Containers = append(obj.Spec.Containers, proxySpec())
}

// hasSidecar reports whether the pod comes with its sidecar already injected.
func hasSidecar(obj *corev1.Pod) bool {
	return len(obj.Spec.Containers) > 1 && slices.ContainsFunc(obj.Spec.Containers, func(c corev1.Container) bool { return c.Name == ProxyContainer })
}

// proxySpec is the sidecar as a container of its pod.
func proxySpec() corev1.Container {
	return corev1.Container{
		Name:  ProxyContainer,
		Image: "hasp-proxy",
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: "/healthz/ready", Port: intstr.FromInt32(api.ProxyHealthPort),
			}},
			PeriodSeconds: 2, FailureThreshold: 2,
		},
	}
}

// captured puts the pod's traffic into the hands of its proxy. Until the proxy
// listens, connections are refused: nothing goes past it.
func (p *pod) captured(life context.Context, proxy *container) bool {
	for {
		spec, err := captureSpec(p.object())
		if err == nil {
			err = capture.Apply(p.net.descriptor(), spec)
		}
		if err == nil {
			return true
		}
		p.s.log.Error("pod not captured", "pod", p.name(), "err", err)
		proxy.wait("CaptureFailed", err.Error())
		if !pause(life, retryPeriod) {
			return false
		}
	}
}

// captureSpec is what a cluster captures of the pod, too. Only here kubelets and
// the proxy's user are other ones: probes come from inside the pod, so they need
// no doors, and the proxy's own connections carry a mark.
func captureSpec(obj *corev1.Pod) (capture.Spec, error) {
	plan, err := api.PlanCapture(obj)
	if err != nil {
		return capture.Spec{}, err
	}
	return capture.Spec{
		OutboundPort: proxyOutbound, InboundPort: proxyInbound, ExemptMark: Mark,
		IncludeInboundPorts:  plan.IncludeInboundPorts,
		ExcludeInboundPorts:  plan.ExcludeInboundPorts,
		IncludeCIDRs:         plan.IncludeOutboundRanges,
		IncludeOutboundPorts: plan.IncludeOutboundPorts,
		ExcludeOutboundPorts: plan.ExcludeOutboundPorts,
		ExcludeCIDRs:         plan.ExcludeOutboundRanges,
	}, nil
}

// prepareProxy makes a launch of the mesh's proxy. What it has to know it reads
// from descriptor 3, because a token is in it; a gateway's sockets follow.
func (c *container) prepareProxy(l launch, obj *corev1.Pod) (*prepared, error) {
	cfg := c.p.s.cfg
	if cfg.ProxyBinary == "" || cfg.JoinToken == nil || cfg.Roots == nil {
		return nil, errors.New("this sandbox has no proxy to run")
	}
	identity, token, err := cfg.JoinToken(obj.Namespace, obj.Name, accountOf(obj))
	if err != nil {
		return nil, fmt.Errorf("join token: %w", err)
	}
	b := mesh.Bootstrap{
		Node: obj.Namespace + "/" + obj.Name, Identity: identity, Role: mesh.RoleSidecar,
		ControlPlane: cfg.ControlPlane, ControlPlaneID: cfg.ControlPlaneID,
		Roots: cfg.Roots(), Token: token, Mark: Mark,
	}
	var sockets []*os.File
	if c.kind == gatewayKind {
		b.Role, b.Inherited = mesh.RoleGateway, map[uint16]int{}
		for i, port := range slices.Sorted(maps.Keys(cfg.GatewayListeners)) {
			b.Inherited[port] = 4 + i
			sockets = append(sockets, cfg.GatewayListeners[port])
		}
	}
	read, err := sealed(b)
	if err != nil {
		return nil, err
	}
	l.path = l.rooms.program(cfg.ProxyBinary, os.Getuid())
	l.argv, l.proxy, l.dir = []string{"hasp-proxy"}, true, "/"
	l.env = []string{"PATH=" + cfg.Path}
	l.files = append([]*os.File{read}, sockets...)
	return &prepared{launch: l, mine: []*os.File{read}}, nil
}

// sealed is a bootstrap to be read from a descriptor, once. It fits into the
// pipe, so nobody has to wait for the reader.
func sealed(b mesh.Bootstrap) (*os.File, error) {
	data, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	const pipeSize = 64 << 10
	if len(data) > pipeSize {
		return nil, fmt.Errorf("bootstrap: %d bytes are more than %d: too many roots", len(data), pipeSize)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	defer write.Close()
	if _, err := write.Write(data); err != nil {
		read.Close()
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return read, nil
}
