package source

import (
	"cmp"
	"net/netip"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/api"
	"hasp/mesh"
)

// running is the workload that a pod is, if it has not ended.
func running(p *corev1.Pod, nsLabels map[string]string) *mesh.Workload {
	w := workload(p.ObjectMeta, &p.Spec, nsLabels)
	w.Owner = owner(p)
	if w.Role == mesh.RoleNone && !w.HostNetwork && hasProxyStatus(p) {
		w.Role = mesh.RoleSidecar
	}
	w.Addresses, w.Ready = addresses(p), ready(p)
	return w
}

func hasEnded(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// ended is the workload that a pod was that is over and had an address of its own,
// else nil.
func ended(p *corev1.Pod) *mesh.Workload {
	at := addresses(p)
	if len(at) == 0 || p.Spec.HostNetwork {
		return nil
	}
	w := &mesh.Workload{Namespace: p.Namespace, Name: p.Name, Owner: owner(p), ServiceAccount: cmp.Or(p.Spec.ServiceAccountName, "default"), Addresses: at}
	if hasProxyStatus(p) {
		w.Role = mesh.RoleSidecar
	}
	return w
}

// template is the workload a Deployment will make. It has no address, so no
// proxy is ever sent there; policy can be asked about it all the same.
func template(d *appsv1.Deployment, nsLabels map[string]string) *mesh.Workload {
	m := d.Spec.Template.ObjectMeta
	m.Namespace, m.Name = d.Namespace, d.Name
	w := workload(m, &d.Spec.Template.Spec, nsLabels)
	w.Owner, w.Ready = d.Name, true
	return w
}

func workload(m metav1.ObjectMeta, spec *corev1.PodSpec, nsLabels map[string]string) *mesh.Workload {
	w := &mesh.Workload{
		Namespace: m.Namespace, Name: m.Name, Labels: m.Labels,
		ServiceAccount: cmp.Or(spec.ServiceAccountName, "default"),
		HostNetwork:    spec.HostNetwork,
		Role:           role(m, spec, nsLabels),
	}
	if w.Namespace == "" {
		w.Namespace = "default"
	}
	for _, c := range spec.Containers {
		if c.Name == api.ProxyContainer && w.Role == mesh.RoleSidecar {
			continue
		}
		w.Ports = append(w.Ports, ports(c)...)
	}
	for _, c := range spec.InitContainers {
		if c.Name != api.ProxyContainer && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			w.Ports = append(w.Ports, ports(c)...) // a native sidecar serves too
		}
	}
	return w
}

// ports are the TCP ports that a container declares.
func ports(c corev1.Container) []mesh.WorkloadPort {
	var out []mesh.WorkloadPort
	for _, p := range c.Ports {
		if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
			out = append(out, mesh.WorkloadPort{Name: p.Name, Number: uint16(p.ContainerPort)})
		}
	}
	return out
}

func addresses(p *corev1.Pod) []netip.Addr {
	ips := p.Status.PodIPs
	if len(ips) == 0 && p.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	var out []netip.Addr
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// ready: without any status (a manifest) a pod counts as ready.
func ready(p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return p.Status.Phase == ""
}
