package xds_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hasp/mesh"
	"hasp/xds"
)

// TestParts: a configuration that is put together from parts is the one that is
// encoded at once, to the bit.
func TestParts(t *testing.T) {
	tried := 0
	for range 200 {
		seed := rand.Uint64()
		c := gen{rand.New(rand.NewPCG(seed, 0))}.config()
		if !c.OnDemand {
			continue
		}
		tried++
		whole, err := xds.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		base := *c
		base.Outbound.Clusters, base.Outbound.Listeners, base.Peers = nil, nil, nil
		var parts []xds.Resources
		part := func(put func(*mesh.ProxyConfig)) {
			p := &mesh.ProxyConfig{MinTLS: c.MinTLS, Settings: c.Settings}
			put(p)
			r, err := xds.EncodePart(p)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, r, r) // the same part may be there twice
		}
		for _, l := range c.Outbound.Listeners {
			part(func(p *mesh.ProxyConfig) { p.Outbound.Listeners = []mesh.Listener{l} })
		}
		for _, cl := range c.Outbound.Clusters {
			part(func(p *mesh.ProxyConfig) { p.Outbound.Clusters = []mesh.Cluster{cl} })
		}
		for _, peer := range c.Peers {
			part(func(p *mesh.ProxyConfig) { p.Peers = []mesh.Peer{peer} })
		}
		joined, err := xds.EncodeWith(&base, parts...)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(versions(whole), versions(joined)); d != "" {
			t.Errorf("seed %d (-whole +joined)\n%s", seed, d)
		}
	}
	if tried < 10 {
		t.Errorf("only %d configurations were on demand", tried)
	}
}

// TestAsk: names ask for what they name, and nothing else asks for anything.
func TestAsk(t *testing.T) {
	var d mesh.Demand
	vip, six := netip.MustParseAddrPort("10.96.0.7:80"), netip.MustParseAddrPort("[fd00::7]:443")
	peer := netip.MustParseAddr("10.0.0.7")
	if xds.Ask(&d, xds.ListenerType, []string{"*", "virtualInbound", "virtualOutbound", "0.0.0.0_80", "::_80", "10.96.0.7", "10.96.0.7_080", "10.96.0.7_65536",
		"::ffff:10.96.0.7_80", "fe80::1%eth0_80", "FD00::7_80", "_", ""}) ||
		xds.Ask(&d, xds.EndpointType, []string{"*", "hasp.peers", "hasp.peers/", "hasp.peers/x", "hasp.peers/::ffff:10.0.0.7", "outbound|80||a"}) ||
		xds.Ask(&d, xds.ClusterType, []string{xds.ServiceName(vip)}) {
		t.Errorf("asked for %v", d)
	}
	if !xds.Ask(&d, xds.ListenerType, []string{xds.ServiceName(vip), xds.ServiceName(six)}) || !xds.Ask(&d, xds.EndpointType, []string{xds.PeerName(peer)}) {
		t.Error("names ask for nothing")
	}
	want := mesh.Demand{Services: map[netip.AddrPort]bool{vip: true, six: true}, Peers: map[netip.Addr]bool{peer: true}}
	same := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}
	if diff := cmp.Diff(want, d, same); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !xds.Unask(&d, xds.ListenerType, []string{"10.96.0.7_80"}) || xds.Unask(&d, xds.ListenerType, []string{"10.96.0.7_80"}) || !xds.Unask(&d, xds.EndpointType, []string{"hasp.peers/10.0.0.7"}) {
		t.Error("what is given up and what is not are mixed up")
	}
	if len(d.Services) != 1 || len(d.Peers) != 0 {
		t.Errorf("left %v", d)
	}
}

// FuzzAsk feeds names as a proxy sends them: one that asks for an address is that
// address' name.
func FuzzAsk(f *testing.F) {
	for _, name := range []string{"10.96.0.7_80", "fd00::7_443", "hasp.peers/10.0.0.7", "_", "hasp.peers/fe80::1%a"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		var d mesh.Demand
		xds.Ask(&d, xds.ListenerType, []string{name})
		xds.Ask(&d, xds.EndpointType, []string{name})
		for a := range d.Services {
			if xds.ServiceName(a) != name {
				t.Errorf("%q asks for %s", name, a)
			}
		}
		for a := range d.Peers {
			if xds.PeerName(a) != name {
				t.Errorf("%q asks for %s", name, a)
			}
		}
	})
}
