package compile_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hasp/compile"
	"hasp/mesh"
	"hasp/source"
	"hasp/world"
)

// town is a mesh that changes: parts of it that are there or not, or are one way
// or another, by number.
type town map[string]int

var (
	namespaces = []string{"shop", "bank"}
	apps       = []string{"web", "db"}
)

func (t town) manifest() string {
	var b strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&b, "---\n"+format+"\n", args...) }
	for i, ns := range namespaces {
		for j, app := range apps {
			for k := range 1 + t[ns+app]%3 {
				sidecar := "{name: istio-proxy, image: x}"
				if t[ns+app+"plain"]%4 == 1 {
					sidecar = ""
				}
				ready := []string{"True", "False"}[t[fmt.Sprint(ns, app, k, "ready")]%5/4]
				add(`apiVersion: v1
kind: Pod
metadata: {name: %s-%d, namespace: %s, labels: {app: %s, v: "%d"}}
spec: {initContainers: [%s], containers: [{name: app, image: x, ports: [{name: http, containerPort: %d}]}]}
status: {phase: Running, podIPs: [{ip: 10.%d.%d.%d}], conditions: [{type: Ready, status: "%s"}]}`,
					app, k, ns, app, k%2, sidecar, 8080+t[ns+app+"port"]%2, i, j, k+1, ready)
			}
			if t[ns+app+"gone"]%5 == 4 {
				continue
			}
			ip := fmt.Sprintf("10.96.%d.%d", i, j)
			if app == "db" {
				ip = "None"
			}
			add(`apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s, annotations: {networking.istio.io/exportTo: "%s"}}
spec: {clusterIP: %s, selector: {app: %s}, ports: [{name: http, port: %d, targetPort: http}, {name: tcp, port: 90}]}`,
				app, ns, []string{"*", "*", "*", ".", "shop"}[t[ns+app+"export"]%5], ip, app, 80+t[ns+app+"number"]%2)
		}
		// Another way to the same pods, at which a policy may aim.
		if n := t[ns+"alias"] % 4; n > 0 {
			add(`apiVersion: v1
kind: Service
metadata: {name: alias, namespace: %s}
spec: {clusterIP: 10.97.%d.1, selector: {app: %s}, ports: [{name: http, port: 80, targetPort: %d}]}`, ns, i, apps[n%2], 8080+t[ns+"aliasport"]%2)
		}
		// The same host in several namespaces, at the same and at other addresses.
		add(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: %s}
spec: {hosts: [api.example.com], addresses: [240.0.0.%d], exportTo: ["%s"], ports: [{number: 443, name: tls, protocol: TLS}], resolution: STATIC, endpoints: [{address: 10.%d.1.1}]}`,
			ns, 1+t[ns+"se"]%2, []string{"*", "."}[t[ns+"seexport"]%2], i)
	}
	if n := t["anywhere"] % 3; n > 0 {
		add(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: anywhere, namespace: %s}
spec: {hosts: [any.example.com], ports: [{number: 5%d, name: tcp, protocol: TCP}], resolution: NONE}`, namespaces[n-1], n)
	}
	if n := t["rule"] % 3; n > 0 {
		add(`apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r, namespace: %s}
spec: {host: "*.%[1]s.svc.cluster.local", trafficPolicy: {tls: {mode: %[2]s}}}`, namespaces[n-1], []string{"DISABLE", "ISTIO_MUTUAL"}[t["rulemode"]%2])
	}
	if n := t["policy"] % 3; n > 0 {
		add(`apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata: {name: web, namespace: shop}
spec: {targets: [{name: %s, ports: [{number: 80}]}], peers: [%s]}`, []string{"web", "alias"}[n-1], []string{"", "{mtls: {}}"}[t["policymode"]%2])
	}
	for i, ns := range []string{"shop", "bank", "istio-system"} {
		for j, selector := range []string{"", "selector: {matchLabels: {app: web}}, "} {
			if n := t[fmt.Sprint("peers", i, j)] % 4; n > 0 {
				add(`apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: p%d, namespace: %s}
spec: {%smtls: {mode: %s}}`, j, ns, selector, []string{"STRICT", "DISABLE", "PERMISSIVE"}[n-1])
			}
			if n := t[fmt.Sprint("callers", i, j)] % 3; n > 0 {
				add(`apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a%d, namespace: %s}
spec: {%saction: ALLOW, rules: [{from: [{source: {namespaces: [ns-%d]}}]}]}`, j, ns, selector, n)
			}
		}
	}
	return b.String()
}

func (t town) world(tb testing.TB, generation int) *world.World {
	tb.Helper()
	w, _, err := source.FromFiles(strings.NewReader(t.manifest()), "shop", "-")
	if err != nil {
		tb.Fatal(err)
	}
	w.Generation = uint64(generation)
	return w
}

// change some of it: a little, as a mesh does.
func (t town) change(r *rand.Rand) {
	keys := []string{"anywhere", "rule", "policymode", "policymode", "peers00", "peers01", "peers01", "peers10", "peers11", "peers11", "peers20", "callers00", "callers01", "callers11", "callers20"}
	for _, ns := range namespaces {
		keys = append(keys, ns+"se", ns+"seexport", ns+"alias", ns+"alias", ns+"aliasport", ns+"aliasport")
		for _, app := range apps {
			for _, k := range []string{"", "plain", "port", "gone", "export", "number", "0ready", "1ready", "2ready"} {
				keys = append(keys, ns+app+k)
			}
		}
	}
	for range 1 + r.IntN(2) {
		t[keys[r.IntN(len(keys))]]++
	}
}

var sameAddr = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

func joined(t *testing.T, c *compile.Compiler, wl *mesh.Workload, d mesh.Demand) *mesh.ProxyConfig {
	t.Helper()
	cfg, err := compile.Join(c.OnDemand(wl, d))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// everything that a whole configuration has an address of.
func everything(cfg *mesh.ProxyConfig) mesh.Demand {
	d := mesh.Demand{Services: map[netip.AddrPort]bool{}, Peers: map[netip.Addr]bool{}}
	for _, l := range cfg.Outbound.Listeners {
		if l.Addr.IsValid() {
			d.Services[netip.AddrPortFrom(l.Addr, l.Port)] = true
		}
	}
	for _, p := range cfg.Peers {
		d.Peers[p.Addr] = true
	}
	return d
}

// TestOnDemand: whoever asks for everything is told what it would be told unasked,
// in a mesh that changes, and who is not touched by a change would be told the
// same as before.
func TestOnDemand(t *testing.T) {
	compared, untouched := 0, 0
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		mesh1 := town{"policy": int(seed) % 3, "rulemode": int(seed) % 2, "shopalias": 2}
		w := mesh1.world(t, 1)
		c := compile.New(w)
		for generation := 2; generation < 10; generation++ {
			before, was := c, w
			mesh1.change(r)
			w = mesh1.world(t, generation)
			var changes *compile.Changes
			c, changes = before.Next(w)
			fresh := compile.New(w)
			for _, wl := range w.Workloads {
				if wl.Role != mesh.RoleSidecar {
					continue
				}
				whole, _ := fresh.For(wl)
				all := everything(whole)
				got := joined(t, c, wl, all)
				if diff := cmp.Diff(asIfOnDemand(whole), unlabelled(got), sameAddr, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("seed %d, generation %d, %s (-whole +everything on demand)\n%s", seed, generation, wl.Key(), diff)
				}
				if diff := cmp.Diff(joined(t, fresh, wl, all), got, sameAddr); diff != "" {
					t.Fatalf("seed %d, generation %d, %s (-new +next)\n%s", seed, generation, wl.Key(), diff)
				}
				compared++
				old := was.Workload(wl.Key())
				if old == nil || old.Role != mesh.RoleSidecar {
					continue
				}
				for range 8 {
					d := some(r, all)
					if changes.Touch(wl.Key(), d) {
						continue
					}
					untouched++
					x := joined(t, before, old, d)
					x.Generation = w.Generation
					if diff := cmp.Diff(x, joined(t, c, wl, d), sameAddr); diff != "" {
						t.Fatalf("seed %d, generation %d: %s is not touched (-before +after)\n%s", seed, generation, wl.Key(), diff)
					}
				}
			}
		}
	}
	if compared < 200 || untouched < 200 {
		t.Errorf("compared %d proxies, of which %d times one was not touched: that shows nothing", compared, untouched)
	}
}

// some of a demand.
func some(r *rand.Rand, all mesh.Demand) mesh.Demand {
	d := mesh.Demand{Services: map[netip.AddrPort]bool{netip.MustParseAddrPort("10.96.0.0:80"): true}, Peers: map[netip.Addr]bool{}}
	for a := range all.Services {
		if r.IntN(5) == 0 {
			d.Services[a] = true
		}
	}
	for a := range all.Peers {
		if r.IntN(5) == 0 {
			d.Peers[a] = true
		}
	}
	return d
}

// asIfOnDemand leaves out of a whole configuration what nobody can ask for:
// clusters that no listener leads to.
func asIfOnDemand(whole *mesh.ProxyConfig) *mesh.ProxyConfig {
	out := *whole
	out.OnDemand = true
	out.Outbound.Clusters = slices.DeleteFunc(slices.Clone(out.Outbound.Clusters), func(c mesh.Cluster) bool {
		return !slices.ContainsFunc(out.Outbound.Listeners, func(l mesh.Listener) bool { return l.Cluster == c.Name })
	})
	return &out
}

func unlabelled(cfg *mesh.ProxyConfig) *mesh.ProxyConfig {
	out := *cfg
	out.Outbound.Clusters = slices.Clone(out.Outbound.Clusters)
	for i := range out.Outbound.Clusters {
		c := &out.Outbound.Clusters[i]
		c.Endpoints = slices.Clone(c.Endpoints)
		for j := range c.Endpoints {
			c.Endpoints[j].Labels = nil
		}
	}
	return &out
}

// TestChangesAreFew: an endpoint that comes or goes touches who asked for its
// service or calls for its address, and nobody else; and the parts that others
// share are the same ones.
func TestChangesAreFew(t *testing.T) {
	before := town{}
	w := before.world(t, 1)
	c := compile.New(w)
	web, other := netip.MustParseAddrPort("10.96.0.0:80"), netip.MustParseAddrPort("10.96.1.0:80")
	wl := w.Workload("bank/web-0")
	one := func(a netip.AddrPort) mesh.Demand { return mesh.Demand{Services: map[netip.AddrPort]bool{a: true}} }
	_, parts := c.OnDemand(wl, one(other))

	after := town{"shopweb0ready": 4} // not ready
	w2 := after.world(t, 2)
	c2, changes := c.Next(w2)
	if changes.All || changes.Touch("bank/web-0", one(other)) || !changes.Touch("bank/web-0", one(web)) || !changes.Touch("shop/web-0", mesh.Demand{}) {
		t.Errorf("a pod that is not ready any more: %+v", changes)
	}
	if !changes.Touch("bank/web-0", mesh.Demand{Peers: map[netip.Addr]bool{netip.MustParseAddr("10.0.0.1"): true}}) {
		t.Error("whoever asked for the pod's address is not touched")
	}
	_, again := c2.OnDemand(w2.Workload("shop/db-0"), one(other)) // another audience
	if len(parts) != 2 || len(again) != 2 || parts[0] != again[0] || parts[1] != again[1] {
		t.Errorf("a service that did not change is compiled anew: %v, %v", parts, again)
	}
	// A rule for it has everybody told anew.
	after["rule"] = 1
	if _, changes := c2.Next(after.world(t, 3)); !changes.All {
		t.Error("a rule changes nothing")
	}
}

// TestKeep: a part is made something of once.
func TestKeep(t *testing.T) {
	p, made := &compile.Part{}, 0
	for range 2 {
		if v, err := p.Keep(func(*compile.Part) (any, error) { made++; return made, nil }); v != 1 || err != nil {
			t.Errorf("got %v, %v", v, err)
		}
	}
}
