package ca_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/ca"
)

// filesOf is a directory as a Secret would hold it.
func filesOf(t *testing.T, dir string, names ...string) ca.Files {
	t.Helper()
	f := ca.Files{}
	for _, n := range names {
		b, err := os.ReadFile(dir + "/" + n)
		if err != nil {
			t.Fatal(err)
		}
		f[n] = b
	}
	return f
}

// Files are made once, signed with as they are, and renewed only when due.
func TestComplete(t *testing.T) {
	clk := &clock{start}
	cfg := ca.Config{TrustDomain: td, Now: clk.now, IntermediateTTL: 100 * time.Hour}
	made, changed, err := ca.Complete(cfg, nil)
	if err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	for _, name := range append(cacerts, "root-key.pem") {
		if len(made[name]) == 0 {
			t.Errorf("%s is missing", name)
		}
	}
	if _, changed, err = ca.Complete(cfg, made); err != nil || changed {
		t.Errorf("made again: %v, %v", changed, err)
	}
	c, err := ca.Open(cfg, made)
	if err != nil {
		t.Fatal(err)
	}
	clk.t = start.Add(60 * time.Hour)
	renewed, changed, err := ca.Complete(cfg, made)
	if err != nil || !changed {
		t.Fatalf("not renewed at half its life: %v, %v", changed, err)
	}
	if end, _ := c.Expiry(); !end.Equal(start.Add(100 * time.Hour)) {
		t.Errorf("Complete changed the files it was given: %v", end)
	}
	if err := c.Replace(renewed); err != nil {
		t.Fatal(err)
	}
	if end, _ := c.Expiry(); !end.Equal(clk.t.Add(100 * time.Hour)) {
		t.Errorf("the renewed intermediate ends at %v", end)
	}
	if string(c.Bundle()) != string(made["root-cert.pem"]) {
		t.Error("the root changed")
	}
}

// What another authority gave has no root key: it is used and never renewed.
func TestOpenCacerts(t *testing.T) {
	dir := t.TempDir()
	load(t, ca.Config{Dir: dir})
	files := filesOf(t, dir, cacerts...)
	clk := &clock{time.Now().Add(300 * 24 * time.Hour)}
	cfg := ca.Config{TrustDomain: td, Now: clk.now}
	if _, changed, err := ca.Complete(cfg, files); err != nil || changed {
		t.Errorf("changed %v, %v", changed, err)
	}
	if _, err := ca.Open(cfg, files); err != nil {
		t.Error(err)
	}
}

// Files that cannot sign are refused and the last good ones go on.
func TestReplaceKeepsTheLastGood(t *testing.T) {
	cfg := ca.Config{TrustDomain: td}
	good, _, err := ca.Complete(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.Open(cfg, good)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"ca-cert.pem":   "ca: read the authority: there is no ca-cert.pem",
		"ca-key.pem":    "ca: read the authority: there is no ca-key.pem",
		"root-cert.pem": "ca: read the authority: there is no root-cert.pem",
	} {
		bad := ca.Files{}
		for n, b := range good {
			bad[n] = b
		}
		bad[name] = nil // an empty value is a missing file
		if err := c.Replace(bad); err == nil || err.Error() != want {
			t.Errorf("%s: got %v\nwant %s", name, err, want)
		}
		if _, err := c.Issue(boards, 0); err != nil {
			t.Errorf("%s: the last good authority is gone: %v", name, err)
		}
	}
	big := ca.Files{"ca-cert.pem": []byte(strings.Repeat("x", 1<<20+1))}
	if err := c.Replace(big); err == nil || err.Error() != "ca: ca-cert.pem is larger than 1048576 bytes" {
		t.Error(err)
	}
}

// A server's certificate has the names that clients without SPIFFE look for.
func TestServerNames(t *testing.T) {
	c := load(t, ca.Config{})
	s, err := c.Server(spiffeid.RequireFromString("spiffe://cluster.local/ns/istio-system/sa/istiod"), "istiod.istio-system.svc")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := s.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.Leaf.VerifyHostname("istiod.istio-system.svc"); err != nil {
		t.Error(err)
	}
	other, err := c.Issue(boards, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(other.Leaf.DNSNames, nil) {
		t.Errorf("a workload got the names %q", other.Leaf.DNSNames)
	}
}
