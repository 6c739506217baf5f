package proof_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"hasp/proof"
)

const istiod = "spiffe://cluster.local/ns/istio-system/sa/istiod"

func signers(trustDomain string) []string {
	return []string{"spiffe://" + trustDomain + "/ns/istio-system/sa/istiod"}
}

func TestSign(t *testing.T) {
	a, b := authority(t), authority(t)
	r := &proof.Report{Version: proof.ReportVersion, TrustDomain: "cluster.local", By: istiod, At: time.Now().UTC(), Workloads: []proof.Workload{{
		Workload: "shop/web", Checks: []proof.Check{{Name: "plaintext", Port: 8080, Verdict: proof.Failed, Says: "plaintext <is> let in"}},
	}}}
	cert := issue(t, a, istiod)
	sign := func(change func(*proof.Report), by string) proof.Signed {
		t.Helper()
		copied := *r
		change(&copied)
		c := cert
		if by != istiod {
			c = issue(t, a, by)
		}
		s, err := proof.Sign(&copied, c, a.Bundle())
		if err != nil {
			t.Fatal(err)
		}
		// As it is kept: indented, in a file.
		file, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		var again proof.Signed
		if err := json.Unmarshal(file, &again); err != nil {
			t.Fatal(err)
		}
		return again
	}
	same := func(*proof.Report) {}
	for _, c := range []struct {
		name   string
		signed proof.Signed
		change func(*proof.Signed)
		roots  []byte
		want   string // of the error
	}{
		{"good", sign(same, istiod), nil, nil, ""},
		{"good, by the roots from elsewhere", sign(same, istiod), nil, a.Bundle(), ""},
		{"the roots of another mesh", sign(same, istiod), nil, b.Bundle(), "the signer's certificate: x509: certificate signed by unknown authority"},
		{"a verdict was changed", sign(same, istiod), func(s *proof.Signed) {
			s.Report = json.RawMessage(strings.Replace(string(s.Report), `"failed"`, `"proven"`, 1))
		}, nil, "the signature does not match"},
		{"a workload's proxy signed it", sign(same, memberID), nil, nil, "it is signed by " + memberID + ", which is not the control plane of \"cluster.local\""},
		{"of another trust domain", sign(func(r *proof.Report) { r.TrustDomain = "other.test" }, istiod), nil, nil, "which is not the control plane of \"other.test\""},
		{"made after the certificate ended", sign(func(r *proof.Report) { r.At = r.At.Add(time.Hour) }, istiod), nil, nil, "certificate has expired"},
		{"of a newer hasp", sign(func(r *proof.Report) { r.Version = 2 }, istiod), nil, nil, "the report is of version 2, and this hasp reads version 1"},
		{"without a signature", sign(same, istiod), func(s *proof.Signed) { s.Signature = nil }, nil, "the signature does not match"},
		{"without a certificate", sign(same, istiod), func(s *proof.Signed) { s.Chain = "" }, nil, "there is no certificate in it"},
		{"without roots", sign(same, istiod), func(s *proof.Signed) { s.Roots = "" }, nil, "the roots: there is no certificate in it"},
	} {
		if c.change != nil {
			c.change(&c.signed)
		}
		got, err := c.signed.Check(c.roots, signers)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want == "" && (got.Signer != istiod || len(got.Roots) != 1 || got.Workloads[0].Checks[0].Says != "plaintext <is> let in"):
			t.Errorf("%s: %+v", c.name, got)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// A report is a stranger's bytes: whatever they are, an error is all that comes
// of them.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"report":{"version":1},"signature":"AA==","chain":"","roots":""}`))
	f.Add([]byte(`{"report":{"version":1,"trustDomain":"cluster.local"},"chain":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n","roots":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s proof.Signed
		if json.Unmarshal(data, &s) != nil {
			return
		}
		if c, err := s.Check(nil, signers); err == nil && len(s.Signature) == 0 {
			t.Errorf("%+v is believed without a signature", c)
		}
	})
}
