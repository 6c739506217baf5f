package control

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

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
}

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
		case s.Nack != nil && s.Nack.Generation >= s.AckedGeneration:
			p.Refused = append(p.Refused, s.Node+" refused it: "+s.Nack.Message)
		case s.AckedGeneration < generation:
			p.Behind = true
		}
	}
	return p
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
