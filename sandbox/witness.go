package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"hasp/api"
	"hasp/capture"
	"hasp/mesh"
)

// discard is the port that is tried (RFC 863).
const discard = 9

// witnessTime bounds a connection to one of them.
const witnessTime = 2 * time.Second

// Capture is what the network of a pod with a sidecar says of how its traffic is
// captured.
type Capture struct {
	// Rules in force, which are those that the pod asks for.
	Rules int
	// Out and In are the connections that went to the sidecar since it started.
	Out, In uint64
	// Past are the connections that went past it because the pod's annotations say
	// so, by rule.
	Past []Passed
	// Tried are connections from inside the pod to addresses that nobody has. None
	// is tried where annotations leave such addresses alone.
	Tried []Tried
}

// Passed are connections that a rule left alone.
type Passed struct {
	Rule        string
	Connections uint64
}

// Tried is a connection from inside. Err is nil when it came out at the sidecar.
type Tried struct {
	Address netip.AddrPort
	Err     error
}

// Captured looks at the capture of a running pod.
func (s *Sandbox) Captured(ctx context.Context, namespace, name string) (*Capture, error) {
	obj, network, err := s.pods.connected(namespace, name)
	if err != nil {
		return nil, err
	}
	spec, err := captureSpec(obj)
	if err != nil {
		return nil, err
	}
	before, err := capture.Counters(network.descriptor(), spec)
	if err != nil {
		return nil, err
	}
	out := &Capture{Rules: len(before)}
	for _, nobody := range mesh.Nobodys() {
		a := netip.AddrPortFrom(nobody, discard)
		if spec.IncludeCIDRs != nil || slices.ContainsFunc(spec.ExcludeCIDRs, func(p netip.Prefix) bool { return p.Contains(a.Addr()) }) ||
			slices.Contains(spec.ExcludeOutboundPorts, a.Port()) {
			continue
		}
		out.Tried = append(out.Tried, Tried{a, network.try(ctx, a)})
	}
	after, err := capture.Counters(network.descriptor(), spec)
	if err != nil {
		return nil, err
	}
	out.count(after)
	// What came about must have come about by the rules, and not by a route.
	came := slices.ContainsFunc(out.Tried, func(t Tried) bool { return t.Err == nil })
	var earlier Capture
	if earlier.count(before); came && out.Out == earlier.Out {
		for i := range out.Tried {
			out.Tried[i].Err = fmt.Errorf("it came about, and no rule has seen it")
		}
	}
	return out, nil
}

// try to connect from inside the pod, as its workload does.
func (n *network) try(ctx context.Context, a netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, witnessTime)
	defer cancel()
	c, err := n.dialAs(ctx, 0, a.String())
	if errors.Is(err, syscall.ECONNRESET) {
		// It was taken, and ended before we looked: the sidecar gets nowhere either.
		// One that nobody takes is refused, or has no route.
		return nil
	}
	if err != nil {
		return err
	}
	return c.Close()
}

func (c *Capture) count(rules []capture.Counted) {
	for _, r := range rules {
		switch {
		case r.Rule.Do.RedirectTo == 0:
			if r.Connections > 0 && asked(r.Rule) {
				c.Past = append(c.Past, Passed{r.Rule.String(), r.Connections})
			}
		case r.Rule.Chain == capture.Output:
			c.Out += r.Connections
		default:
			c.In += r.Connections
		}
	}
}

// asked reports whether a rule leaves alone what the pod's annotations exclude;
// the other exemptions are the sidecar's own connections and ports, and loopback.
func asked(r capture.Rule) bool {
	return slices.ContainsFunc(r.Match, func(m capture.Match) bool {
		switch m.Field {
		case capture.DestinationNet:
			return true
		case capture.DestinationPort:
			return r.Chain == capture.Output || m.Number != api.ProxyHealthPort && m.Number != api.ProxyMetricsPort
		}
		return false
	})
}

// connected is a running pod with a network.
func (ps *pods) connected(namespace, name string) (*corev1.Pod, *network, error) {
	obj, err := ps.get(namespace, name)
	if err != nil {
		return nil, nil, err
	}
	ps.mu.Lock()
	p := ps.byUID[obj.UID]
	ps.mu.Unlock()
	if p == nil {
		return nil, nil, fmt.Errorf("pod %s/%s does not run", namespace, name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.net == nil {
		return nil, nil, fmt.Errorf("pod %s/%s has no network yet", namespace, name)
	}
	return p.obj, p.net, nil
}
