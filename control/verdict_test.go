package control

import (
	"net/netip"
	"testing"

	"hasp/mesh"
	"hasp/proof"
	"hasp/truth"
)

// What strangers saw at a port, beside what its proxy says of them, and the
// verdict that comes of it.
func TestVerdicts(t *testing.T) {
	const web = "spiffe://cluster.local/ns/shop/sa/web"
	in := proof.Sight{Reached: true, Shaken: true, Accepted: true, Evidence: proof.Evidence{Identity: web}}
	late := proof.Sight{Reached: true, Shaken: true, Evidence: proof.Evidence{Identity: web}} // sent away after the handshake
	away := proof.Sight{Reached: true}
	out := proof.Sight{}
	posing := in
	posing.Identity = "spiffe://cluster.local/ns/shop/sa/other"
	strict := mesh.InboundPort{Port: 8080, Mode: mesh.ModeStrict}
	permissive := mesh.InboundPort{Port: 8080, Mode: mesh.ModePermissive}
	deny := mesh.Origin{Kind: "AuthorizationPolicy", Namespace: "shop", Name: "deny-all"}
	record := func(c mesh.Connection) *truth.Connection { return &truth.Connection{Node: "shop/web", Connection: c} }

	for _, c := range []struct {
		name    string
		port    mesh.InboundPort
		who     proof.Stranger
		saw     proof.Sight
		member  proof.Sight
		record  *truth.Connection // of the attempt
		verdict proof.Verdict
		says    string
	}{
		{"strict, plaintext", strict, proof.Plain, away, in, nil, proof.Proven, "plaintext is refused"},
		{"strict, plaintext gets in", strict, proof.Plain, in, in, nil, proof.Failed, "plaintext is let in"},
		{"the proxy says that it let it in", strict, proof.Plain, away, in, record(mesh.Connection{Allowed: true, Security: mesh.Plaintext}), proof.Failed,
			"plaintext is let in, as the proxy says itself"},
		{"the proxy refused it, too", strict, proof.Plain, away, in, record(mesh.Connection{Security: mesh.Plaintext}), proof.Proven, "plaintext is refused"},
		{"a dead port refuses everybody", strict, proof.Plain, away, away, nil, proof.Unknown,
			"no telling whether plaintext is refused: the port does not answer a member either"},
		{"permissive, plaintext", permissive, proof.Plain, away, in, nil, proof.Open, "plaintext is let in"},
		{"no certificate", strict, proof.Bare, late, in, nil, proof.Proven, "TLS without a certificate is refused"},
		{"no certificate gets in", permissive, proof.Bare, in, in, nil, proof.Failed, "TLS without a certificate is let in"},
		{"another trust domain", strict, proof.OtherDomain, late, in, nil, proof.Proven, "a certificate of another trust domain is refused"},
		{"another trust domain gets in", strict, proof.OtherDomain, in, in, nil, proof.Failed, "a certificate of another trust domain is let in"},
		{"another trust domain, permissive", permissive, proof.OtherDomain, in, in, nil, proof.Open, "a certificate of another trust domain is let in, as plaintext is"},
		{"a member", strict, proof.Member, in, in, nil, proof.Proven, "a member of the mesh is let in, and the server proves who it is"},
		{"a member is sent away", strict, proof.Member, away, away, record(mesh.Connection{Failure: &mesh.Failure{}}), proof.Failed, "a member of the mesh is not let in"},
		{"a member may not call", strict, proof.Member, late, late, record(mesh.Connection{Security: mesh.MutualTLS, Rule: deny}), proof.Proven,
			"a member's certificate is accepted; AuthorizationPolicy shop/deny-all then refuses the verifier"},
		{"somebody else serves", strict, proof.Member, posing, posing, nil, proof.Failed, "the server proves to be spiffe://cluster.local/ns/shop/sa/other"},
		{"no way there", strict, proof.Member, out, out, nil, proof.Unknown, "the port is not reached"},
		{"nobody listens", strict, proof.Member, away, away, record(mesh.Connection{Why: "the workload does not listen on the port"}), proof.Unknown,
			"nobody can be let in: the workload does not listen on the port"},
	} {
		c.saw.Address, c.saw.Trace = "10.0.0.1:8080", "attempt"
		c.member.Address = c.saw.Address
		a := &attempts{port: c.port, sights: map[proof.Stranger][]proof.Sight{proof.Member: {c.member}, c.who: {c.saw}}}
		records := map[string]*truth.Connection{}
		if c.record != nil {
			records["attempt"] = c.record
		}
		var got *proof.Check
		for _, check := range a.judge(web, records) {
			if check.Name == string(c.who) {
				got = &check
			}
		}
		if got == nil {
			t.Errorf("%s: not judged", c.name)
			continue
		}
		if got.Verdict != c.verdict || got.Says != c.says {
			t.Errorf("%s: %s, %q; want %s, %q", c.name, got.Verdict, got.Says, c.verdict, c.says)
		}
	}
	disabled := &attempts{port: mesh.InboundPort{Port: 80, Mode: mesh.ModeDisable}}
	if got := disabled.judge(web, nil); len(got) != 1 || got[0].Verdict != proof.Open {
		t.Errorf("DISABLE: %+v", got)
	}
}

func TestWireVerdicts(t *testing.T) {
	at := func(client string, f proof.Flow) proof.Flow {
		f.Client, f.Server = netip.MustParseAddrPort(client), netip.MustParseAddrPort("10.0.0.1:8080")
		return f
	}
	tls := proof.Flow{Sent: 100, Received: 900, Records: 7, Version: "1.3"}
	refused := proof.Flow{Sent: 15, Plain: true}
	plain := proof.Flow{Sent: 15, Received: 20, Plain: true}
	for _, c := range []struct {
		name    string
		mode    mesh.Mode
		flows   []proof.Flow
		unseen  error
		verdict proof.Verdict
		says    string
	}{
		{"own and another's", mesh.ModeStrict, []proof.Flow{at("10.0.0.9:1", tls), at("10.0.0.9:2", refused), at("10.0.0.7:1", tls)}, nil, proof.Proven,
			"on the wire there was nothing but TLS 1.3: 2 connections, 1 of them of others than the verifier, 14 records; 1 that spoke plaintext had no answer"},
		{"plaintext was answered", mesh.ModeStrict, []proof.Flow{at("10.0.0.9:1", tls), at("10.0.0.7:1", plain), at("10.0.0.7:2", proof.Flow{Sent: 1, Version: "1.2"})}, nil, proof.Failed,
			"on the wire there was plaintext that the server answered"},
		{"plaintext is allowed", mesh.ModePermissive, []proof.Flow{at("10.0.0.7:1", plain)}, nil, proof.Open, "on the wire not all was TLS 1.3"},
		{"TLS 1.2", mesh.ModeStrict, []proof.Flow{at("10.0.0.7:1", proof.Flow{Sent: 1, Version: "1.2"})}, nil, proof.Open, "on the wire not all was TLS 1.3"},
		{"packets were missed", mesh.ModeStrict, []proof.Flow{at("10.0.0.9:1", tls), at("10.0.0.7:1", proof.Flow{Sent: 1, Lost: true})}, nil, proof.Unknown,
			"on the wire not everything could be followed"},
		{"nobody came", mesh.ModeStrict, nil, nil, proof.Unknown, "on the wire there was no connection of TLS"},
		{"nobody looked", mesh.ModeStrict, nil, errNoWitness, proof.Unknown, "what went over the wire was not looked at: from here nobody can look at it"},
	} {
		a := &attempts{port: mesh.InboundPort{Port: 8080, Mode: c.mode}, sights: map[proof.Stranger][]proof.Sight{
			proof.Member: {{Evidence: proof.Evidence{From: "10.0.0.9:1"}}}, proof.Plain: {{Evidence: proof.Evidence{From: "10.0.0.9:2"}}},
		}}
		if got := a.wire(c.flows, c.unseen); got.Verdict != c.verdict || got.Says != c.says {
			t.Errorf("%s: %s, %q; want %s, %q", c.name, got.Verdict, got.Says, c.verdict, c.says)
		}
	}
}
