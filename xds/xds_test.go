package xds_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hasp/mesh"
	"hasp/xds"
)

var sameAddr = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// The property the package stands on. A failure prints the seed that makes it.
func TestDecodeOfEncodeIsTheSame(t *testing.T) {
	for range 400 {
		seed := rand.Uint64()
		roundTrip(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func roundTrip(t *testing.T, seed uint64) {
	t.Helper()
	c := gen{rand.New(rand.NewPCG(seed, 0))}.config()
	r, err := xds.Encode(c)
	if err != nil {
		t.Error(err)
		return
	}
	got, err := xds.Decode(r)
	if err != nil {
		t.Error(err)
		return
	}
	if d := cmp.Diff(c, got, sameAddr); d != "" {
		t.Error(d)
	}
	if ok, err := xds.Complete(r); !ok || err != nil {
		t.Errorf("Complete: %v, %v", ok, err)
	}
	again, err := xds.Encode(got)
	if err != nil {
		t.Error(err)
		return
	}
	if d := cmp.Diff(versions(r), versions(again)); d != "" {
		t.Errorf("equal configurations have different versions: %s", d)
	}
}

func versions(r xds.Resources) map[string]string {
	out := map[string]string{}
	for kind, m := range r {
		for name, res := range m {
			out[kind+" "+name] = res.Version
		}
	}
	return out
}

// The names the client subscribes to are those that there are.
func TestReferredNames(t *testing.T) {
	for range 100 {
		seed := rand.Uint64()
		r, err := xds.Encode(gen{rand.New(rand.NewPCG(seed, 0))}.config())
		if err != nil {
			t.Fatal(err)
		}
		for kind, referred := range map[string][]string{
			xds.RouteType: xds.RouteNames(r), xds.SecretType: xds.SecretNames(r),
		} {
			for _, name := range r.Names(kind) {
				found := false
				for _, n := range referred {
					found = found || n == name
				}
				if !found {
					t.Errorf("seed %d: nothing refers to %s", seed, name)
				}
			}
		}
	}
}

// A change of the generation alone, or of one endpoint, changes no more than it
// has to.
func TestWhatChanges(t *testing.T) {
	c := lab()
	before, err := xds.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	c.Generation++
	c.Outbound.Clusters[0].Endpoints[0].Port++
	after, err := xds.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	var changed []string
	a := versions(after)
	for k, v := range versions(before) {
		if a[k] != v {
			changed = append(changed, k)
		}
	}
	want := []string{
		xds.EndpointType + " outbound|8080||boards.microservices-demo.svc.cluster.local",
		xds.RuntimeType + " hasp.proxy",
	}
	if d := cmp.Diff(want, changed, cmpopts.SortSlices(func(a, b string) bool { return a < b })); d != "" {
		t.Error(d)
	}
}

func TestCompleteKnowsAMixture(t *testing.T) {
	c := lab()
	old, err := xds.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	c.Inbound.Default.Mode = mesh.ModeStrict
	c.Outbound.Clusters[0].TLS.Mode = mesh.ClientIstioMutual
	c.Outbound.Clusters[0].TLS.Auto = false
	fresh, err := xds.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	mixed := old.Clone()
	mixed[xds.ClusterType] = fresh[xds.ClusterType]
	mixed[xds.RuntimeType] = fresh[xds.RuntimeType]
	if ok, err := xds.Complete(mixed); ok || err != nil {
		t.Errorf("a mixture is complete: %v, %v", ok, err)
	}
	if ok, err := xds.Complete(xds.Resources{}); ok || err != nil {
		t.Errorf("nothing is complete: %v, %v", ok, err)
	}
}

// lab is app-ui's sidecar in the lab: one service, auto mTLS.
func lab() *mesh.ProxyConfig {
	const host = "boards.microservices-demo.svc.cluster.local"
	return &mesh.ProxyConfig{
		Node: "microservices-demo/app-ui-1", Identity: mesh.Identity("cluster.local", "microservices-demo", "app-ui"),
		TrustDomain: "cluster.local", Role: mesh.RoleSidecar,
		Inbound: mesh.Inbound{
			Default: mesh.InboundPort{Mode: mesh.ModePermissive},
			Ports: []mesh.InboundPort{{Port: 8080, Mode: mesh.ModeStrict, Protocol: mesh.HTTP, Service: "app-ui.microservices-demo.svc.cluster.local",
				Origin: mesh.Origin{Kind: "Policy", Namespace: "microservices-demo", Name: "default", Level: mesh.LevelNamespace}}},
		},
		Outbound: mesh.Outbound{
			AllowAny:  true,
			Listeners: []mesh.Listener{{Addr: netip.MustParseAddr("10.96.0.7"), Port: 8080, Cluster: "outbound|8080||" + host}},
			Clusters: []mesh.Cluster{{
				Name: "outbound|8080||" + host, Hostname: host, Namespace: "microservices-demo", Port: 8080, Protocol: mesh.HTTP,
				TLS: mesh.ClientTLS{Auto: true, SNI: "outbound_.8080_._." + host},
				Endpoints: []mesh.Endpoint{{ServicePort: 8080, Addr: netip.MustParseAddr("10.77.0.5"), Port: 8080, Workload: "microservices-demo/boards-1",
					Identity: mesh.Identity("cluster.local", "microservices-demo", "boards"), Sidecar: true, Labels: map[string]string{"app": "boards"}}},
			}},
		},
		Peers: []mesh.Peer{{Addr: netip.MustParseAddr("10.77.0.5"), Workload: "microservices-demo/boards-1",
			Identity: mesh.Identity("cluster.local", "microservices-demo", "boards"), Sidecar: true}},
	}
}

// TestShared: what proxies share and what each has alone are together what it would
// have by itself, also when they share with another that differs in the rest.
func TestShared(t *testing.T) {
	compared := 0
	for seed := range uint64(300) {
		c := gen{rand.New(rand.NewPCG(seed, 0))}.config()
		if c.Role != mesh.RoleSidecar || c.OnDemand {
			continue
		}
		compared++
		want, err := xds.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		other := *c
		other.Node, other.Identity, other.Inbound, other.Secrets = "other/pod", "spiffe://cluster.local/ns/other/sa/pod", mesh.Inbound{}, nil
		shared, err := xds.EncodeShared(&other)
		if err != nil {
			t.Fatal(err)
		}
		got, err := xds.EncodeOwn(c, shared)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range xds.Types {
			if diff := cmp.Diff(want.Names(kind), got.Names(kind)); diff != "" {
				t.Fatalf("seed %d: %s (-whole +shared)\n%s", seed, kind, diff)
			}
			for name, res := range want[kind] {
				if got[kind][name].Version != res.Version {
					t.Errorf("seed %d: %s %s differs", seed, kind, name)
				}
			}
		}
	}
	if compared < 50 {
		t.Errorf("%d configurations were compared, which shows little", compared)
	}
}
