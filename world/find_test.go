package world_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"hasp/mesh"
	"hasp/world"
)

// town is a World of every kind of lookup's subject.
func town() *world.World {
	web := &mesh.Workload{Namespace: "shop", Name: "web-1", Labels: map[string]string{"app": "web", "v": "1"}}
	vm := &mesh.Workload{Namespace: "shop", Name: "vm-1"}
	away := &mesh.Workload{Namespace: "away", Name: "web-1", Labels: map[string]string{"app": "web"}}
	return &world.World{
		Workloads: []*mesh.Workload{away, vm, web},
		Services: []*mesh.Service{
			{Namespace: "away", Name: "api", Hostname: "api.example.com"},
			{Namespace: "shop", Name: "api", Hostname: "api.example.com", Endpoints: []mesh.Endpoint{{Workload: "shop/vm-1"}, {Workload: "shop/vm-1", Port: 2}}},
			{Namespace: "shop", Name: "bare", Hostname: "bare.shop", Endpoints: []mesh.Endpoint{{}}},
			{Namespace: "shop", Name: "web", Hostname: "web.shop", Selector: map[string]string{"app": "web"}, Endpoints: []mesh.Endpoint{{Workload: "shop/web-1"}}},
			{Namespace: "shop", Name: "web2", Hostname: "web2.shop", Selector: map[string]string{"app": "web", "v": "2"}},
		},
	}
}

// TestIndex: the index finds what a search finds.
func TestIndex(t *testing.T) {
	plain, indexed := town(), town()
	indexed.Index()
	type answers struct {
		Service                                             []string
		ServicesOf, WorkloadsOf, LeadingTo, OfOne, ByTheKey []string
	}
	ask := func(w *world.World) (a answers) {
		hosts := func(list []*mesh.Service) (out []string) {
			for _, s := range list {
				out = append(out, s.Namespace+"/"+s.Name)
			}
			return append(out, ";")
		}
		for _, q := range [][2]string{{"shop", "api.example.com"}, {"away", "api.example.com"}, {"other", "api.example.com"}, {"shop", "nobody"}} {
			s := w.Service(q[0], q[1])
			if s == nil {
				s = &mesh.Service{}
			}
			a.Service = append(a.Service, hosts([]*mesh.Service{s})...)
		}
		for _, wl := range w.Workloads {
			a.ServicesOf = append(a.ServicesOf, hosts(w.ServicesOf(wl))...)
			a.LeadingTo = append(a.LeadingTo, hosts(w.ServicesLeadingTo(wl))...)
			if w.Workload(wl.Key()) == wl {
				a.ByTheKey = append(a.ByTheKey, wl.Key())
			}
		}
		for _, s := range w.Services {
			for _, wl := range w.WorkloadsOf(s) {
				a.WorkloadsOf = append(a.WorkloadsOf, s.Name+" "+wl.Key())
			}
		}
		// A workload that is in no World, as policy asks about one to come.
		a.OfOne = hosts(w.ServicesOf(&mesh.Workload{Namespace: "shop", Labels: map[string]string{"app": "web"}}))
		return a
	}
	want := answers{
		Service:     []string{"shop/api", ";", "away/api", ";", "away/api", ";", "/", ";"},
		ServicesOf:  []string{";", ";", "shop/web", ";"},
		WorkloadsOf: []string{"web shop/web-1"},
		LeadingTo:   []string{";", "shop/api", ";", ";"},
		OfOne:       []string{"shop/web", ";"},
		ByTheKey:    []string{"away/web-1", "shop/vm-1", "shop/web-1"},
	}
	for name, w := range map[string]*world.World{"plain": plain, "indexed": indexed} {
		if diff := cmp.Diff(want, ask(w)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
	if !plain.Equal(indexed) {
		t.Error("an index makes a World another one")
	}
	indexed.Workloads[0].Ready = true
	if plain.Equal(indexed) {
		t.Error("Worlds that differ are equal")
	}
}
