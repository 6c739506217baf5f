package ca_test

import (
	"crypto/elliptic"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hasp/ca"
)

// copyFiles puts another authority's intermediate in place, as a person would.
func copyFiles(t *testing.T, from, to string, names ...string) {
	t.Helper()
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(from, n))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, n), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

var cacerts = []string{"ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"}

// Istio's cacerts layout has no root key: it is loaded, signed with, and never
// renewed by us.
func TestCacertsLayout(t *testing.T) {
	theirs, ours := t.TempDir(), t.TempDir()
	clk := &clock{start}
	load(t, ca.Config{Dir: theirs, Now: clk.now, IntermediateTTL: 100 * time.Hour})
	copyFiles(t, theirs, ours, cacerts...)
	clk.t = start.Add(60 * time.Hour)
	c := load(t, ca.Config{Dir: ours, Now: clk.now})
	if end, _ := c.Expiry(); !end.Equal(start.Add(100 * time.Hour)) {
		t.Errorf("the intermediate of another authority was renewed: %v", end)
	}
	svid, err := c.Sign(request(t, ecKey(t, elliptic.P256()), nil), boards, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(svid.Chain) != 2 {
		t.Errorf("the chain has %d certificates, want leaf and intermediate", len(svid.Chain))
	}
}

// The same files laid over an authority of our own replace it, although its
// root key is still there.
func TestReplacedByFiles(t *testing.T) {
	theirs, ours := t.TempDir(), t.TempDir()
	clk := &clock{start}
	other := load(t, ca.Config{Dir: theirs, Now: clk.now, IntermediateTTL: 100 * time.Hour})
	c := load(t, ca.Config{Dir: ours, Now: clk.now})
	copyFiles(t, theirs, ours, cacerts...)
	clk.t = start.Add(60 * time.Hour)
	if err := c.Reload(); err != nil {
		t.Fatal(err)
	}
	if string(c.Bundle()) != string(other.Bundle()) {
		t.Error("the bundle is not theirs")
	}
}

// While a root rotates both are trusted, whichever signs.
func TestTwoRoots(t *testing.T) {
	oldDir, newDir := t.TempDir(), t.TempDir()
	old := load(t, ca.Config{Dir: oldDir})
	load(t, ca.Config{Dir: newDir})
	f := filepath.Join(newDir, "root-cert.pem")
	b, err := os.ReadFile(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f, append(b, old.Bundle()...), 0o600); err != nil {
		t.Fatal(err)
	}
	both := load(t, ca.Config{Dir: newDir})
	if n := strings.Count(string(both.Bundle()), "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("%d roots in the bundle", n)
	}
	for _, c := range []*ca.CA{old, both} {
		cert, err := c.Issue(boards, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(cert, both.Roots()); err != nil {
			t.Error(err)
		}
	}
}

// What cannot sign is refused with the reason, and the authority that was there
// goes on.
func TestReloadKeepsTheLastGood(t *testing.T) {
	theirs := t.TempDir()
	load(t, ca.Config{Dir: theirs})
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  string
	}{
		{"key of another", func(t *testing.T, d string) { copyFiles(t, theirs, d, "ca-key.pem") },
			"ca: ca-key.pem is not the key of ca-cert.pem"},
		{"root of another", func(t *testing.T, d string) { copyFiles(t, theirs, d, "root-cert.pem") },
			"ca: what ca-cert.pem signs does not verify against root-cert.pem: x509: certificate signed by unknown authority"},
		{"no PEM", func(t *testing.T, d string) { write(t, d, "ca-key.pem", "secret") }, "ca: ca-key.pem: no PEM block"},
		{"not a key", func(t *testing.T, d string) { copyAs(t, d, "ca-cert.pem", "ca-key.pem") },
			`ca: ca-key.pem: a PEM block of type "CERTIFICATE" is no private key`},
		{"empty roots", func(t *testing.T, d string) { write(t, d, "root-cert.pem", "\n") }, "ca: root-cert.pem: no certificate in it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			c := load(t, ca.Config{Dir: dir})
			tt.spoil(t, dir)
			if err := c.Reload(); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
			if _, err := c.Issue(boards, 0); err != nil {
				t.Errorf("the last good authority is gone: %v", err)
			}
		})
	}
}

func TestLoadRefusesWhatItCannotComplete(t *testing.T) {
	theirs, dir := t.TempDir(), t.TempDir()
	load(t, ca.Config{Dir: theirs})
	copyFiles(t, theirs, dir, "root-cert.pem")
	_, err := ca.Load(ca.Config{Dir: dir, TrustDomain: td})
	if want := "ca: " + dir + " has root-cert.pem but no ca-cert.pem, and no root-key.pem to sign one with"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyAs(t *testing.T, dir, from, to string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, from))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, to, string(b))
}
