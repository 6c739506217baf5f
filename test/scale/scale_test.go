package main

import (
	"os"
	"strings"
	"testing"
)

// The parts of a simulation are this program again.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && isPart(os.Args[1]) {
		serve(os.Args[1])
		return
	}
	os.Exit(m.Run())
}

// TestRun: a small mesh takes every kind of change, breaks and begins anew, and
// every proxy ends up with what the objects say, told whole or on demand.
func TestRun(t *testing.T) {
	for name, p := range map[string]Plan{
		"whole":     {Services: 20, Workloads: 100, Proxies: 6, Calls: 3, Changes: 2, Seed: 1, OnDemand: -1, Brief: true},
		"on demand": {Services: 100, Workloads: 500, Proxies: 20, Calls: 5, Changes: 2, Seed: 1, OnDemand: 50, Brief: true},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Run(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if r.Checked != p.Proxies {
				t.Errorf("%d of %d configurations were compared", r.Checked, p.Proxies)
			}
			for _, c := range r.Changes {
				if c.Subscribers == 0 {
					t.Errorf("%s: the change concerned no proxy", c.Kind)
				}
				if p.OnDemand > 0 && c.Subscribers == float64(p.Proxies) && c.Kind == "endpoint" {
					t.Errorf("%s: every proxy was told what few asked for", c.Kind)
				}
			}
			for _, text := range []string{r.Table(), r.Markdown()} {
				if !strings.Contains(text, "rollout") {
					t.Errorf("the results do not have every change:\n%s", text)
				}
			}
		})
	}
}
