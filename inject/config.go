package inject

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/api"
)

// Where the settings are on a cluster, as in Istio: this ConfigMap of the root
// namespace, under this key.
const (
	ConfigMapName = "istio-sidecar-injector"
	ConfigMapKey  = "values"
)

// Config is what injected pods get. [DefaultConfig] fills in what is not said;
// a pod's own annotations win over it.
type Config struct {
	// Image of the sidecar, which is that of the init container too.
	Image           string            `json:"image"`
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`
	// ImagePullSecrets are added to the pod's; they are of its namespace.
	ImagePullSecrets []string `json:"imagePullSecrets,omitempty"`

	// Revision of this control plane. Empty, it serves namespaces of every
	// istio.io/rev; else only those with this one.
	Revision string `json:"revision,omitempty"`

	// ControlPlane is HOST:PORT of xDS and certificates, TrustDomain that of the
	// mesh; ControlPlaneID the SPIFFE ID to expect there, empty for istiod's in
	// the trust domain.
	ControlPlane   string `json:"controlPlane"`
	ControlPlaneID string `json:"controlPlaneID,omitempty"`
	TrustDomain    string `json:"trustDomain"`
	// CA is HOST:PORT of a certificate service that is not the control plane,
	// and CAName the DNS name of its certificate.
	CA     string `json:"ca,omitempty"`
	CAName string `json:"caName,omitempty"`
	// CertLifetime asked for; 0 leaves it to the CA.
	CertLifetime metav1.Duration `json:"certLifetime,omitzero"`

	// CNI: capture is the CNI plugin's, and pods need no NET_ADMIN.
	CNI bool `json:"cni"`
	// CNINetwork is, where Multus runs the plugin, its NetworkAttachmentDefinition
	// as NAMESPACE/NAME, which is added to k8s.v1.cni.cncf.io/networks.
	CNINetwork string `json:"cniNetwork,omitempty"`
	// NativeSidecar: an init container that stays (restartPolicy Always,
	// Kubernetes 1.29). Without it the sidecar is one of the containers.
	NativeSidecar bool `json:"nativeSidecar"`
	// HoldApplicationUntilProxyStarts: the application starts when the sidecar
	// is ready.
	HoldApplicationUntilProxyStarts bool `json:"holdApplicationUntilProxyStarts"`

	// UID and GID of the sidecar. In a namespace with OpenShift's range of users
	// that does not have this one, it is the last of the range.
	UID int64 `json:"uid"`
	// Resources of the sidecar and of the init container. Requests that are said
	// are all there are, and limits too: {} or null is none.
	Resources corev1.ResourceRequirements `json:"resources,omitzero"`
	// LogLevel of the sidecar: debug, info, warn or error.
	LogLevel string `json:"logLevel,omitempty"`

	// What is captured where the pod's annotations of these names say nothing.
	// Nil includes everything.
	IncludeOutboundIPRanges []string `json:"includeOutboundIPRanges,omitempty"`
	ExcludeOutboundIPRanges []string `json:"excludeOutboundIPRanges,omitempty"`
	ExcludeOutboundPorts    []uint16 `json:"excludeOutboundPorts,omitempty"`
	ExcludeInboundPorts     []uint16 `json:"excludeInboundPorts,omitempty"`
}

// DefaultConfig is what holds when nobody has set anything.
func DefaultConfig() Config {
	return Config{
		Image:                           "localhost:5000/hasp/hasp-proxy:latest",
		ControlPlane:                    "istiod.istio-system.svc:15012",
		TrustDomain:                     "cluster.local",
		NativeSidecar:                   true,
		HoldApplicationUntilProxyStarts: true,
		UID:                             api.ProxyUID,
		LogLevel:                        "info",
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("10m"),
				corev1.ResourceMemory: resource.MustParse("40Mi"),
			},
			Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		},
	}
}

// ParseConfig reads settings as YAML, strictly: what is written wrongly is an
// error with the line and the field ([api.Error], joined). name is the file's,
// for errors. What is not written keeps its default.
func ParseConfig(name string, data []byte) (Config, error) {
	cfg := DefaultConfig()
	o, err := api.DecodeSettings(name, data, &cfg)
	if err == nil {
		cfg.Resources = said(o.Tree(), cfg.Resources)
		err = cfg.validate(o)
	}
	if err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// said takes from decoded resources the defaults that the settings speak about
// and do not repeat, which decoding leaves: else a limit could not be taken away.
func said(settings map[string]any, r corev1.ResourceRequirements) corev1.ResourceRequirements {
	resources, spoken := settings["resources"]
	if spoken && resources == nil {
		return corev1.ResourceRequirements{}
	}
	written, _ := resources.(map[string]any)
	for list, decoded := range map[string]*corev1.ResourceList{"requests": &r.Requests, "limits": &r.Limits} {
		v, spoken := written[list]
		if !spoken {
			continue
		}
		amounts, _ := v.(map[string]any)
		maps.DeleteFunc(*decoded, func(name corev1.ResourceName, _ resource.Quantity) bool { return amounts[string(name)] == nil })
		if len(*decoded) == 0 {
			*decoded = nil
		}
	}
	return r
}
