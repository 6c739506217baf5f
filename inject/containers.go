package inject

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hasp/api"
)

const (
	tokenDir = "/var/run/secrets/tokens"
	rootsDir = "/var/run/secrets/istio"

	// program is where the image has hasp-proxy, its entry point.
	program = "/usr/local/bin/hasp-proxy"

	readyPath = "/healthz/ready"
	// startFailures is how many seconds the sidecar may take to be ready, as in
	// Istio: a control plane that is being installed is waited for.
	startFailures = 600
)

// container is the sidecar.
func (s sidecar) container() corev1.Container {
	c := corev1.Container{
		Name:            api.ProxyContainer,
		Image:           s.cfg.Image,
		ImagePullPolicy: s.cfg.ImagePullPolicy,
		Args:            literal(s.proxyArgs()),
		Env: []corev1.EnvVar{
			downward("POD_NAME", "metadata.name"),
			downward("POD_NAMESPACE", "metadata.namespace"),
			downward("SERVICE_ACCOUNT", "spec.serviceAccountName"),
		},
		Ports:     []corev1.ContainerPort{{Name: "http-envoy-prom", ContainerPort: api.ProxyMetricsPort, Protocol: corev1.ProtocolTCP}},
		Resources: *s.cfg.Resources.DeepCopy(),
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: ready(), PeriodSeconds: 15, TimeoutSeconds: 3, FailureThreshold: 4,
		},
		SecurityContext: unprivileged(s.uid),
		VolumeMounts: []corev1.VolumeMount{
			{Name: tokenVolume, MountPath: tokenDir, ReadOnly: true},
			{Name: rootsVolume, MountPath: rootsDir, ReadOnly: true},
		},
	}
	if s.native {
		// A kubelet starts what follows when the startup probe succeeds, and
		// ends a native sidecar after the containers.
		c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	}
	switch {
	case s.native && s.hold:
		c.StartupProbe = &corev1.Probe{
			ProbeHandler: ready(), PeriodSeconds: 1, TimeoutSeconds: 3, FailureThreshold: startFailures,
		}
	case s.hold:
		// A kubelet starts the next container when this one's hook has ended,
		// as "pilot-agent wait" does in Istio.
		c.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{
			Command: []string{program, "wait", fmt.Sprintf("--timeout=%ds", startFailures)},
		}}}
	}
	return c
}

// unprivileged is what Pod Security's restricted level demands.
func unprivileged(uid int64) *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsUser: &uid, RunAsGroup: &uid, RunAsNonRoot: new(true),
		AllowPrivilegeEscalation: new(false), Privileged: new(false), ReadOnlyRootFilesystem: new(true),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// initContainer captures the pod's connections and ends. It is root with one
// capability: a capability that a container is given reaches no other user.
func (s sidecar) initContainer() corev1.Container {
	return corev1.Container{
		Name:            api.InitContainer,
		Image:           s.cfg.Image,
		ImagePullPolicy: s.cfg.ImagePullPolicy,
		Args:            literal(s.captureArgs()),
		Resources:       *s.cfg.Resources.DeepCopy(),
		SecurityContext: &corev1.SecurityContext{
			RunAsUser: new(int64(0)), RunAsGroup: new(int64(0)), RunAsNonRoot: new(false),
			AllowPrivilegeEscalation: new(false), Privileged: new(false), ReadOnlyRootFilesystem: new(true),
			Capabilities:   &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}

// proxyArgs is the command line of "hasp-proxy sidecar".
func (s sidecar) proxyArgs() []string {
	args := []string{"sidecar", "--control-plane=" + s.cfg.ControlPlane, "--trust-domain=" + s.cfg.TrustDomain}
	add := func(flag, value string) {
		if value != "" {
			args = append(args, flag+"="+value)
		}
	}
	add("--control-plane-id", s.cfg.ControlPlaneID)
	add("--ca", s.cfg.CA)
	add("--ca-name", s.cfg.CAName)
	if d := s.cfg.CertLifetime.Duration; d > 0 {
		add("--cert-lifetime", d.Round(time.Second).String())
	}
	add("--log-level", s.cfg.LogLevel)
	add("--trunks", s.trunks)
	add("--idle-timeout", s.idle)
	if len(s.probes) > 0 {
		add("--probes", text(s.probes))
	}
	return args
}

// captureArgs is the command line of "hasp-proxy capture". A list that includes
// everything is not written; one that includes nothing is.
func (s sidecar) captureArgs() []string {
	args := []string{"capture", "--uid=" + strconv.FormatInt(s.uid, 10)}
	ports := func(flag string, list []uint16, always bool) {
		if len(list) > 0 || always {
			args = append(args, flag+"="+joined(list, func(p uint16) string { return strconv.Itoa(int(p)) }))
		}
	}
	ranges := func(flag string, list []netip.Prefix, always bool) {
		if len(list) > 0 || always {
			args = append(args, flag+"="+joined(list, netip.Prefix.String))
		}
	}
	p := s.plan
	ports("--include-inbound-ports", p.IncludeInboundPorts, p.IncludeInboundPorts != nil)
	ports("--exclude-inbound-ports", p.ExcludeInboundPorts, false)
	ports("--include-outbound-ports", p.IncludeOutboundPorts, false)
	ports("--exclude-outbound-ports", p.ExcludeOutboundPorts, false)
	ranges("--include-outbound-ip-ranges", p.IncludeOutboundRanges, p.IncludeOutboundRanges != nil)
	ranges("--exclude-outbound-ip-ranges", p.ExcludeOutboundRanges, false)
	ports("--probe-ports", p.ProbePorts, false)
	return args
}

// literal protects arguments from a kubelet, which replaces $(NAME) in them by
// the environment and reads $$ as $ (core/v1 Container.Args).
func literal(args []string) []string {
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "$", "$$")
	}
	return args
}

func joined[T any](list []T, text func(T) string) string {
	words := make([]string, 0, len(list))
	for _, v := range list {
		words = append(words, text(v))
	}
	return strings.Join(words, ",")
}

func ready() corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: readyPath, Port: intstr.FromInt32(api.ProxyHealthPort), Scheme: corev1.URISchemeHTTP,
	}}
}

func downward(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}
