package local

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"hasp/proof"
	"hasp/sandbox"
)

// witness looks at the capture of pods, for hasp verify.
type witness struct{ d *daemon }

// Captured implements control.Witness.
func (w witness) Captured(ctx context.Context, workload string) []proof.Check {
	s := w.d.pods.Load()
	if s == nil {
		return []proof.Check{{Name: "capture", Verdict: proof.Unknown, Says: errNoSandbox.Error()}}
	}
	namespace, name, _ := strings.Cut(workload, "/")
	c, err := s.Captured(ctx, namespace, name)
	if err != nil {
		return []proof.Check{{Name: "capture", Verdict: proof.Failed, Says: "it is not captured as it should be: " + err.Error()}}
	}
	return captured(c)
}

// Watch implements control.Witness.
func (w witness) Watch(workload string, addresses []netip.Addr) func() ([]proof.Flow, error) {
	fail := func(err error) func() ([]proof.Flow, error) {
		return func() ([]proof.Flow, error) { return nil, err }
	}
	s := w.d.pods.Load()
	if s == nil {
		return fail(errNoSandbox)
	}
	namespace, name, _ := strings.Cut(workload, "/")
	wire := proof.NewWire(addresses)
	stop, err := s.Watch(namespace, name, wire.Packet)
	if err != nil {
		return fail(err)
	}
	return func() ([]proof.Flow, error) {
		missed, err := stop()
		switch {
		case err != nil:
			return nil, err
		case missed > 0 || wire.More > 0:
			return nil, fmt.Errorf("there was too much: %d packets were missed, %d connections not followed", missed, wire.More)
		}
		return wire.Flows(), nil
	}
}

// captured is what the capture of a pod proves.
func captured(c *sandbox.Capture) []proof.Check {
	rules := proof.Check{Name: "capture", Verdict: proof.Proven, Says: fmt.Sprintf("its capture is in force as the pod asks: %d rules", c.Rules)}
	self := proof.Check{Name: "capture-self", Verdict: proof.Proven, Says: "what it dials comes out at its sidecar"}
	for _, t := range c.Tried {
		e := proof.Evidence{Address: t.Address.String(), Saw: "nobody has the address, and a connection from inside was taken"}
		if t.Err != nil {
			e.Saw = t.Err.Error()
			self.Verdict, self.Says = proof.Failed, "what it dials does not come out at its sidecar"
		}
		self.Evidence = append(self.Evidence, e)
	}
	if len(c.Tried) == 0 {
		self.Verdict, self.Says = proof.Open, "what it dials goes past the sidecar where its annotations say so"
	}
	past := proof.Check{Name: "capture-past", Verdict: proof.Proven,
		Says: fmt.Sprintf("nothing went past its sidecar: %d connections out and %d in went through it since it started", c.Out, c.In)}
	for _, p := range c.Past {
		past.Verdict, past.Says = proof.Open, "connections went past its sidecar, as its annotations say"
		past.Evidence = append(past.Evidence, proof.Evidence{Saw: fmt.Sprintf("%d by the rule %q", p.Connections, p.Rule)})
	}
	return []proof.Check{rules, self, past}
}
