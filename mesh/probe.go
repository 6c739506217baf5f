package mesh

import "slices"

// ProbeKind is how a kubelet asks a container whether it is well, for the
// probes that cross the network. (An exec probe does not.)
type ProbeKind string

const (
	ProbeHTTP  ProbeKind = "http"  // httpGet with scheme HTTP
	ProbeHTTPS ProbeKind = "https" // httpGet with scheme HTTPS; kubelets do not verify it
	ProbeTCP   ProbeKind = "tcp"   // tcpSocket
	ProbeGRPC  ProbeKind = "grpc"  // grpc: grpc.health.v1.Health/Check
)

// Probe is one question that a workload's kubelet asks in plaintext and that
// the sidecar answers truthfully even under STRICT: startup, readiness and
// liveness probes of the pod's containers (Kubernetes core/v1 Probe).
type Probe struct {
	Kind ProbeKind `json:"kind"`
	Port uint16    `json:"port"` // of the container, resolved to a number
	// Path of an HTTP probe with its query, "/" when the pod names none.
	Path string `json:"path,omitempty"`
	// Host is the Host header of an HTTP probe that sets one.
	Host string `json:"host,omitempty"`
	// Headers an HTTP probe sets (httpHeaders), in order, without Host.
	Headers []ProbeHeader `json:"headers,omitempty"`
	// Service of a gRPC probe, may be empty.
	Service string `json:"service,omitempty"`
}

// MaxProbes bounds how many a sidecar is told of: a pod has three for each of its
// containers.
const MaxProbes = 512

// ProbeHeader is one header of an HTTP probe.
type ProbeHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ProbeDoor is the first of the ports where the proxy accepts connections to
// the ports with TCP probes: the capture redirects the n-th distinct port with a
// TCP probe (in ascending order) to ProbeDoor+n instead of the inbound port, and
// the proxy listens there only while the application itself listens, so that
// the kernel's answer to a kubelet that merely connects is the application's
// truth.
const ProbeDoor = 15100

// MaxProbeDoors bounds them.
const MaxProbeDoors = 64

// DoorPorts are those of the ports with TCP probes that have a door, in its
// order: the n-th has the door ProbeDoor+n. Ports beyond MaxProbeDoors have
// none: they are captured like any other.
func DoorPorts(ports []uint16) []uint16 {
	ports = slices.Clone(ports)
	slices.Sort(ports)
	ports = slices.Compact(ports)
	return ports[:min(len(ports), MaxProbeDoors)]
}

// Doors gives each of the ports with TCP probes its door, as capture wants it.
func Doors(ports []uint16) map[uint16]uint16 {
	out := make(map[uint16]uint16, len(ports))
	for n, port := range DoorPorts(ports) {
		out[port] = uint16(ProbeDoor + n)
	}
	return out
}
