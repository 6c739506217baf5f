package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"hasp/truth"
	"hasp/xds/server"
)

// Progress is how far the proxies of one control plane are: those connected to
// it, of several.
type Progress struct {
	// Objects is a digest of the mesh's objects that the newest World was built
	// from. Control planes with the same one have seen the same changes.
	Objects string `json:"objects"`
	// Behind says that some connected proxy has not acknowledged that World.
	Behind bool `json:"behind"`
	// Refused is what proxies said that refused it.
	Refused []string `json:"refused,omitempty"`
	// Late are the nodes of those that have not acknowledged it, or refused it.
	Late []string `json:"late,omitempty"`
}

// maxLate bounds Progress.Late. Where there are more, nobody knows who is not.
const maxLate = 5000

// Progress of now.
func (c *Control) Progress() Progress {
	s := c.current.Load()
	if s == nil {
		return Progress{Behind: true}
	}
	p := progressOf(c.xds.Status(), s.world.Generation)
	p.Objects = digest(s.objects)
	return p
}

// add another control plane's progress. One that has seen other objects is
// behind, or we are.
func (p *Progress) add(other Progress) {
	p.Behind = p.Behind || other.Behind || other.Objects != p.Objects
	p.Refused = append(p.Refused, other.Refused...)
}

func progressOf(proxies []server.ProxyStatus, generation uint64) Progress {
	var p Progress
	for _, s := range proxies {
		switch {
		case !s.Connected:
			continue
		case s.Nack != nil && s.Nack.Generation >= s.AckedGeneration:
			p.Refused = append(p.Refused, s.Node+" refused it: "+s.Nack.Message)
		case s.AckedGeneration < generation:
			p.Behind = true
		default:
			continue
		}
		if len(p.Late) < maxLate {
			p.Late = append(p.Late, s.Node)
		}
	}
	return p
}

// isLate is whether a proxy of one of the control planes that told this may be
// late, for one that has seen the given objects.
func isLate(others []Progress, node, objects string) bool {
	return slices.ContainsFunc(others, func(o Progress) bool {
		return o.Objects != objects || len(o.Late) == maxLate || slices.Contains(o.Late, node)
	})
}

// elsewhere sets the generation of the proxies that have their configuration from
// another control plane: ours when they have all that we know of, else an older
// one. What they report is by the numbers of that other one.
func (c *Control) elsewhere(ctx context.Context, f *truth.Facts) {
	if c.cfg.Others == nil {
		return
	}
	here := map[string]bool{}
	for _, s := range c.xds.Status() {
		here[s.Node] = s.Connected
	}
	var of []*truth.Reporter
	for i := range f.Proxies {
		if p := &f.Proxies[i]; p.Connected && !here[p.Node] {
			of = append(of, p)
		}
	}
	if len(of) == 0 {
		return
	}
	objects, others := c.Progress().Objects, c.cfg.Others(ctx)
	for _, p := range of {
		if len(others) == 0 || isLate(others, p.Node, objects) {
			p.Generation = min(p.Generation, f.Generation-1)
		} else {
			p.Generation = f.Generation
		}
	}
}

// digest of which objects, in which state, there are.
func digest(objects []statusObject) string {
	var lines []string
	for _, o := range objects {
		lines = append(lines, fmt.Sprintln(o.key(), o.meta.GetUID(), o.meta.GetGeneration()))
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, l := range lines {
		h.Write([]byte(l))
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}
