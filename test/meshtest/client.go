package meshtest

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

// Image is the image of pods that run a local program.
const Image = "hasp/local"

// Client is a program that runs once, in a pod of its own.
type Client struct {
	Name string
	// Meshed pods have a sidecar; others are outsiders on the same network.
	Meshed  bool
	Command []string
}

// Client runs a program in a pod by "kubectl run -i" and waits for its end. The
// pod stays.
func (m *Mesh) Client(t testing.TB, c Client) Result {
	t.Helper()
	return m.Kubectl(t, c.args()...)
}

func (c Client) args() []string {
	args := []string{"run", c.Name, "-i", "-q", "--pod-running-timeout=3m", "--restart=Never", "--image=" + Image, "--labels=client=" + c.Name}
	if c.Meshed {
		args = append(args, "--annotations=sidecar.istio.io/inject=true")
	}
	return append(append(args, "--command", "--"), c.Command...)
}

// Pod is what tests look at in one.
type Pod struct {
	Name  string
	Phase string
	IPs   []netip.Addr
}

// Pods of the project, also those that ended.
func (m *Mesh) Pods(t testing.TB, selector ...string) []Pod {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Phase  string
				PodIPs []struct{ IP netip.Addr }
			}
		}
	}
	m.get(t, &list, append([]string{"pods"}, selector...)...)
	var out []Pod
	for _, p := range list.Items {
		pod := Pod{Name: p.Metadata.Name, Phase: p.Status.Phase}
		for _, ip := range p.Status.PodIPs {
			pod.IPs = append(pod.IPs, ip.IP)
		}
		out = append(out, pod)
	}
	return out
}

// ServiceIPs are the virtual addresses of a Service, by family.
func (m *Mesh) ServiceIPs(t testing.TB, name string) (v4, v6 netip.Addr) {
	t.Helper()
	var svc struct {
		Spec struct{ ClusterIPs []netip.Addr }
	}
	m.get(t, &svc, "service", name)
	for _, ip := range svc.Spec.ClusterIPs {
		if ip.Is4() {
			v4 = ip
		} else {
			v6 = ip
		}
	}
	if !v4.IsValid() || !v6.IsValid() {
		t.Fatalf("service %s has the addresses %v, want one of each family", name, svc.Spec.ClusterIPs)
	}
	return v4, v6
}

func (m *Mesh) get(t testing.TB, into any, args ...string) {
	t.Helper()
	r := m.Kubectl(t, append(append([]string{"get"}, args...), "-o", "json")...).Must(t)
	if err := json.NewDecoder(strings.NewReader(r.Stdout)).Decode(into); err != nil {
		t.Fatalf("%s: %v", r.Line, err)
	}
}
