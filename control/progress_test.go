package control_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"hasp/control"
	"hasp/mesh"
	"hasp/truth"
)

// Whose proxies have the newest configuration, GET /facts tells by our numbers:
// of those here by what they acknowledged, of those that another control plane
// serves by what that one says.
func TestFactsTellWhoAcknowledged(t *testing.T) {
	var others atomic.Pointer[[]control.Progress]
	p := startAs(t, func(c *control.Config) {
		c.Others = func(context.Context) []control.Progress { return *others.Load() }
	}, strict, pod("web-1", "10.0.0.1"), pod("web-2", "10.0.0.2"))
	objects := p.Progress().Objects
	current := []control.Progress{{Objects: objects}}
	others.Store(&current)
	srv := views(t, p)

	// The report is of generation 0, as of a proxy that got nothing new since, or
	// counts otherwise.
	p.reporter(t, "shop/web-1", web, &sayings{changed: make(chan struct{})})
	<-p.proxy(t, "shop/web-1", web)
	for _, r := range []*mesh.Report{{Whole: true}, {Generation: 1 << 40}} {
		if err := p.Report("shop/web-2", istiodID, r); err != nil {
			t.Fatal(err)
		}
		has := func(node string, want bool) func() bool {
			return func() bool {
				var f truth.Facts
				get(t, srv, "/facts", &f)
				i := slices.IndexFunc(f.Proxies, func(r truth.Reporter) bool { return r.Node == node })
				return i >= 0 && f.Proxies[i].Connected && (f.Proxies[i].Generation >= f.Generation) == want
			}
		}
		wait(t, "web-2 has it, as the other says", has("shop/web-2", true))
		for why, o := range map[string]control.Progress{
			"it acknowledged nothing":           {Objects: objects, Behind: true, Late: []string{"shop/web-2"}},
			"the other has seen something else": {Objects: "else"},
			"the other does not answer":         {Behind: true},
		} {
			others.Store(&[]control.Progress{o})
			if !has("shop/web-2", false)() {
				t.Errorf("web-2 is said to have it, and %s", why)
			}
			wait(t, "web-1, which is here, has it", has("shop/web-1", true))
		}
		others.Store(&current)
	}
}
