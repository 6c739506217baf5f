package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"hasp/mesh"
	"hasp/policy"
	"hasp/truth"
)

// TestTLSCheckWithFacts: istioctl's columns stay as they are, what differs is
// below them, and the wide columns are the facts.
func TestTLSCheckWithFacts(t *testing.T) {
	now := time.Now()
	rows := []tlsRow{
		{Workload: "web.shop", Host: "api.shop", Port: 8080, Status: policy.OK, Server: "STRICT", Client: "ISTIO_MUTUAL", AuthnPolicy: "shop/default", DestinationRule: "shop/api",
			Checked: &truth.Checked{Acked: true, Verdict: policy.OK, Seen: &truth.Seen{Last: now, Security: mesh.MutualTLS, Handshake: mesh.Handshake{At: now.Add(-2 * time.Minute), TLS: "1.3", Group: "X25519MLKEM768",
				LocalIdentity: "spiffe://cluster.local/ns/shop/sa/web", PeerIdentity: "spiffe://cluster.local/ns/shop/sa/api"}}}},
		{Workload: "web.shop", Host: "db.shop", Port: 5432, Status: policy.OK, Server: "PERMISSIVE", Client: "ISTIO_MUTUAL",
			Checked: &truth.Checked{Behind: []string{"shop/db-1", "shop/db-0"}, Verdict: "DIFFERS", Headline: "the newest connection was plaintext",
				Seen: &truth.Seen{Last: now.Add(-3 * time.Minute), Security: mesh.Plaintext}}},
		{Workload: "web.shop", Host: "old.shop", Port: 80, Status: policy.Conflict, Why: "old.shop has no sidecar"},
	}
	var out bytes.Buffer
	if err := writeTable(&out, rows, false); err != nil {
		t.Fatal(err)
	}
	golden(t, "tls-check", out.String())
	out.Reset()
	if err := writeTable(&out, rows, true); err != nil {
		t.Fatal(err)
	}
	golden(t, "tls-check-wide", out.String())

	b, err := json.Marshal(rows[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"status":"OK"`, `"acked":false`, `"behind":["shop/db-0","shop/db-1"]`, `"verdict":"DIFFERS"`, `"security":"none"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the JSON has no %s: %s", want, b)
		}
	}
	if b, _ := json.Marshal(rows[2]); strings.Contains(string(b), "acked") {
		t.Errorf("without facts the JSON has some: %s", b)
	}
}
