package proxy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hasp/mesh"
)

// What is folded is as it was, whatever is written to it afterwards, and what
// connections have in common is there once.
func TestDossier(t *testing.T) {
	start := time.Date(2026, 11, 30, 1, 2, 3, 4, time.UTC)
	facts := func(id uint64, trace string) mesh.Connection {
		return mesh.Connection{
			ID: id, Trace: trace, Direction: mesh.InboundDir,
			Source: netip.MustParseAddrPort("10.0.0.7:4321"), Destination: netip.MustParseAddrPort("[fd00::9]:8080"),
			Upstream: netip.MustParseAddrPort("127.0.0.1:8080"), Local: netip.MustParseAddrPort("127.0.0.1:5555"),
			Service: "boards.shop.svc.cluster.local", Cluster: "outbound|8080||boards", Protocol: mesh.HTTP,
			LocalIdentity: "spiffe://a/ns/shop/sa/boards", PeerIdentity: "spiffe://a/ns/shop/sa/ui", PeerWorkload: "shop/ui-1",
			Security: mesh.MutualTLS, Why: "because", TLS: "1.3", Group: "X25519MLKEM768", Cipher: "AES", ALPN: "hasp/1", Resumed: true,
			Reused: uint32(id), HandshakeAt: start.Add(-time.Minute), Allowed: true, Rule: mesh.Origin{Kind: "PeerAuthentication", Namespace: "shop", Name: "default"},
			Mode: "STRICT", Generation: 7, Start: start, LastSeen: start, Failure: &mesh.Failure{Stage: mesh.StageAnswer},
		}
	}
	same := cmpopts.EquateComparable(netip.AddrPort{})
	one, other := facts(1, "00112233445566ff"), facts(2, "8899aabbccddeeff")
	other.Source = netip.MustParseAddrPort("10.0.0.7:1")
	other.Failure = one.Failure
	first, second := dossier{open: &one}, dossier{open: &other}
	for _, d := range []*dossier{&first, &second} {
		want := *d.open
		d.fold()
		if !d.folded() {
			t.Fatal("it is not folded")
		}
		if diff := cmp.Diff(want, d.read(want.ID), same); diff != "" {
			t.Errorf("folded (-want +got):\n%s", diff)
		}
	}
	if first.same != second.same {
		t.Error("what two connections have in common is there twice")
	}
	first.write(1).Why = "no longer"
	if got, was := first.read(1), second.read(2); got.Why != "no longer" || was.Why != "because" {
		t.Errorf("one is %q, the other %q", got.Why, was.Why)
	}
	nameless := dossier{open: &mesh.Connection{Trace: "none"}}
	if nameless.fold(); nameless.read(1).Trace != "none" {
		t.Error("a trace that is none is lost")
	}
}
