package api

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// NetworkProbe is one question that a kubelet asks a container of a pod over
// the network.
type NetworkProbe struct {
	// Field of the pod: "spec.containers[0].readinessProbe".
	Field string
	// Port is the number, also where the pod writes a name.
	Port uint16
	// Handler has exactly one of HTTPGet, TCPSocket and GRPC.
	Handler corev1.ProbeHandler
	// Hook is set for postStart and preStop, which do not ask but tell.
	Hook bool
}

// NetworkProbes finds the startup, readiness and liveness probes of a pod's
// containers, those of the sidecar left out, and the httpGet hooks of their
// lives, in the order of the pod. Left out are questions that never come to the
// pod's address: exec, those with a host of their own, and tcpSocket hooks,
// which kubelets refuse to run (core/v1 LifecycleHandler). Problems are
// sentences about questions that a kubelet will not be able to ask, because no
// port has the name.
func NetworkProbes(spec *corev1.PodSpec) (probes []NetworkProbe, problems []string) {
	add := func(field string, c *corev1.Container, h corev1.ProbeHandler, hook bool) {
		port, ok := networkPort(h)
		if !ok {
			return
		}
		n, ok := resolvePort(port, c)
		if !ok {
			problems = append(problems, fmt.Sprintf("%s: container %s has no port %q, so the kubelet cannot ask", field, c.Name, port.String()))
			return
		}
		probes = append(probes, NetworkProbe{Field: field, Port: n, Handler: h, Hook: hook})
	}
	each := func(list string, i int, c *corev1.Container) {
		if c.Name == ProxyContainer {
			return
		}
		at := fmt.Sprintf("spec.%s[%d].", list, i)
		for _, p := range []struct {
			field string
			probe *corev1.Probe
		}{{"startupProbe", c.StartupProbe}, {"readinessProbe", c.ReadinessProbe}, {"livenessProbe", c.LivenessProbe}} {
			if p.probe != nil {
				add(at+p.field, c, p.probe.ProbeHandler, false)
			}
		}
		if c.Lifecycle == nil {
			return
		}
		for _, h := range []struct {
			field string
			hook  *corev1.LifecycleHandler
		}{{"postStart", c.Lifecycle.PostStart}, {"preStop", c.Lifecycle.PreStop}} {
			if h.hook != nil && h.hook.HTTPGet != nil {
				add(at+"lifecycle."+h.field, c, corev1.ProbeHandler{HTTPGet: h.hook.HTTPGet}, true)
			}
		}
	}
	for i := range spec.InitContainers {
		each("initContainers", i, &spec.InitContainers[i])
	}
	for i := range spec.Containers {
		each("containers", i, &spec.Containers[i])
	}
	return probes, problems
}

// networkPort is the port of the pod that a question goes to, if it does.
func networkPort(h corev1.ProbeHandler) (intstr.IntOrString, bool) {
	switch {
	case h.HTTPGet != nil && h.HTTPGet.Host == "":
		return h.HTTPGet.Port, true
	case h.TCPSocket != nil && h.TCPSocket.Host == "":
		return h.TCPSocket.Port, true
	case h.GRPC != nil:
		return intstr.FromInt32(h.GRPC.Port), true
	}
	return intstr.IntOrString{}, false
}

// resolvePort is how a kubelet finds the number of a port: by name among those
// of the same container, else as a number that was written as a string.
func resolvePort(port intstr.IntOrString, c *corev1.Container) (uint16, bool) {
	n := int64(port.IntVal)
	if port.Type == intstr.String {
		named := false
		for _, p := range c.Ports {
			if p.Name == port.StrVal {
				n, named = int64(p.ContainerPort), true
				break
			}
		}
		if !named {
			var err error
			if n, err = strconv.ParseInt(port.StrVal, 10, 32); err != nil {
				return 0, false
			}
		}
	}
	return uint16(n), n > 0 && n < 1<<16
}
