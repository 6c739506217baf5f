package control

import (
	"context"
	"time"

	"hasp/mesh"
	"hasp/world"
	"hasp/xds/server"
)

// Status is what the control plane knows of itself and its proxies: hasp
// status, its JSON and the page.
type Status struct {
	Generation  uint64 `json:"generation"`
	Last        Timing `json:"last"`
	TrustDomain string `json:"trustDomain"`
	AutoMTLS    bool   `json:"autoMtls"`
	Services    int    `json:"services"`
	Workloads   int    `json:"workloads"`
	// OnDemand: sidecars are told only what they asked for.
	OnDemand bool                 `json:"onDemand,omitempty"`
	Unmeshed []string             `json:"unmeshed,omitempty"` // NAMESPACE/NAME without a proxy
	Proxies  []server.ProxyStatus `json:"proxies"`
	Pushes   uint64               `json:"pushes"` // configurations sent
	Problems []string             `json:"problems,omitempty"`
	// CAExpiry is when the signing certificate ends; zero when a foreign
	// authority signs.
	CAExpiry time.Time `json:"caExpiry,omitzero"`
}

// Status of now.
func (c *Control) Status() Status {
	st := Status{Proxies: c.xds.Status(), Pushes: c.xds.Pushes()}
	if c.cfg.CA != nil {
		st.CAExpiry, _ = c.cfg.CA.Expiry()
	}
	st.Last, _ = c.timings.last()
	s := c.current.Load()
	if s == nil {
		return st
	}
	st.Generation, st.TrustDomain, st.AutoMTLS = s.world.Generation, s.world.Mesh.TrustDomain, s.world.Mesh.EnableAutoMtls
	st.Services, st.Workloads, st.OnDemand = len(s.world.Services), len(s.world.Workloads), s.onDemand
	for _, p := range s.problems {
		st.Problems = append(st.Problems, p.String())
	}
	for _, d := range s.unserved {
		st.Problems = append(st.Problems, d.String())
	}
	for _, wl := range s.world.Workloads {
		if wl.Role == mesh.RoleNone {
			st.Unmeshed = append(st.Unmeshed, wl.Key())
		}
	}
	return st
}

// Tally of the proxies by state: "current", "behind" the generation, "refused"
// it, or "gone".
func (s Status) Tally() map[string]int {
	n := map[string]int{"current": 0, "behind": 0, "refused": 0, "gone": 0}
	for _, p := range s.Proxies {
		switch {
		case !p.Connected:
			n["gone"]++
		case p.Nack != nil && p.Nack.Generation >= p.AckedGeneration:
			n["refused"]++
		case p.AckedGeneration < s.Generation:
			n["behind"]++
		default:
			n["current"]++
		}
	}
	return n
}

// Enforced waits until every connected proxy has acknowledged a generation.
func (c *Control) Enforced(ctx context.Context, generation uint64) error {
	return c.xds.WaitAcked(ctx, generation)
}

// followProxies acts whenever a proxy connected, went away, acknowledged or
// refused something: a generation may now be enforced, objects' statuses may
// have changed, and a proxy whose workload is gone is forgotten.
func (c *Control) followProxies(ctx context.Context) error {
	for {
		changed := c.xds.Changed()
		if w := c.World(); w != nil {
			c.proxiesChanged(w)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-c.rebuilt:
		}
	}
}

func (c *Control) proxiesChanged(w *world.World) {
	for _, node := range c.xds.Gone() {
		if w.Workload(node) == nil {
			c.xds.Forget(node)
		}
	}
	late, troubled := c.xds.Late(w.Generation)
	if troubled { // perhaps with an older generation
		p := progressOf(c.xds.Status(), w.Generation)
		troubled = p.Behind || len(p.Refused) > 0
	}
	if late == 0 && !troubled {
		c.timings.enforced(w.Generation, time.Now())
		c.timeline.enforced(w.Generation, time.Now())
	}
	signal(c.told)
}
