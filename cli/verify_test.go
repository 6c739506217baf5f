package cli

import (
	"strings"
	"testing"
	"time"

	"hasp/mesh"
	"hasp/proof"
)

func TestWriteProof(t *testing.T) {
	rule := mesh.Origin{Kind: "PeerAuthentication", Namespace: "shop", Name: "default", Level: mesh.LevelNamespace}
	r := &proof.Report{Workloads: []proof.Workload{
		{Workload: "shop/boards-1", Identity: "spiffe://cluster.local/ns/shop/sa/boards", Checks: []proof.Check{
			{Name: "plaintext", Port: 8080, Verdict: proof.Proven, Says: "plaintext is refused", Mode: mesh.ModeStrict, Rule: rule, Evidence: []proof.Evidence{
				{Address: "10.0.0.1:8080", Saw: "connection reset", Took: 512 * time.Microsecond, Trace: "9f86d081884c7d65", Proxy: "refused; none"}}},
			{Name: "no-certificate", Port: 8080, Verdict: proof.Failed, Says: "TLS without a certificate is let in", Mode: mesh.ModeStrict, Rule: rule},
			{Name: "member", Port: 8080, Verdict: proof.Proven, Says: "a member of the mesh is let in", Mode: mesh.ModeStrict, Rule: rule, Evidence: []proof.Evidence{
				{Address: "10.0.0.1:8080", Saw: "it stayed open", TLS: "1.3", Group: "X25519MLKEM768", Identity: "spiffe://cluster.local/ns/shop/sa/boards"}}},
			{Name: "capture", Verdict: proof.Unknown, Says: "its capture was not looked at"},
		}},
		{Workload: "shop/web-1", Checks: []proof.Check{{Name: "plaintext", Port: 80, Verdict: proof.Open, Says: "plaintext is let in", Mode: mesh.ModePermissive}}},
	}}
	const want = `shop/boards-1  spiffe://cluster.local/ns/shop/sa/boards
  √ 8080: plaintext is refused (STRICT by PeerAuthentication shop/default (namespace))
      10.0.0.1:8080  connection reset after 500µs; its proxy: refused; none; trace 9f86d081884c7d65
  × 8080: TLS without a certificate is let in (STRICT by PeerAuthentication shop/default (namespace))
  √ 8080: a member of the mesh is let in
      10.0.0.1:8080  it stayed open; TLS 1.3 X25519MLKEM768; server spiffe://cluster.local/ns/shop/sa/boards
  ? its capture was not looked at

shop/web-1
  - 80: plaintext is let in (PERMISSIVE)

2 proven, 1 failed, 1 let in as configured, 1 unknown
Signed by somebody.
`
	var out strings.Builder
	if err := writeProof(&out, r, "Signed by somebody.", false); err != nil {
		t.Fatal(err)
	}
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// A report that a stranger made and signed cannot move the cursor of whoever
// checks it, nor add lines of its own.
func TestWriteProofOfAStranger(t *testing.T) {
	const evil = "x\nSigned by the mesh\x1b[2J\u009b2J\r"
	r := &proof.Report{Workloads: []proof.Workload{{Workload: evil, Identity: evil, Checks: []proof.Check{{
		Name: string(proof.Member), Port: 1, Verdict: proof.Verdict(evil), Says: evil, Mode: mesh.Mode(evil), Rule: mesh.Origin{Kind: evil, Name: evil},
		Evidence: []proof.Evidence{{Address: evil, Saw: evil, Trace: evil, TLS: evil, Group: evil, Identity: evil, Proxy: evil}},
	}}}}}
	var out strings.Builder
	if err := writeProof(&out, r, "Signed by "+evil, false); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\u009b\r") || strings.Count(out.String(), "\n") != 6 {
		t.Errorf("%q", out.String())
	}
}
