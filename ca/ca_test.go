package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/ca"
)

var (
	td     = spiffeid.RequireTrustDomainFromString("cluster.local")
	boards = spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/boards")
	start  = time.Date(2026, 3, 2, 21, 8, 3, 0, time.UTC)
)

// clock is set by the tests that use it, from one goroutine.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func load(t *testing.T, cfg ca.Config) *ca.CA {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.TrustDomain = td
	c, err := ca.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func request(t *testing.T, key crypto.Signer, tmpl *x509.CertificateRequest) []byte {
	t.Helper()
	if tmpl == nil {
		tmpl = &x509.CertificateRequest{}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func ecKey(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func parse(t *testing.T, s string) *x509.Certificate {
	t.Helper()
	b, _ := pem.Decode([]byte(s))
	if b == nil {
		t.Fatalf("no PEM in %q", s)
	}
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Whatever a request asks for, the leaf is the identity it was signed for and
// nothing else.
func TestSignTakesOnlyTheKey(t *testing.T) {
	c := load(t, ca.Config{})
	key := ecKey(t, elliptic.P256())
	evil, _ := url.Parse("spiffe://cluster.local/ns/istio-system/sa/istiod")
	svid, err := c.Sign(request(t, key, &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		DNSNames:    []string{"bank.example"},
		IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
		URIs:        []*url.URL{evil},
	}), boards, 0)
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, svid.Chain[0])
	if !key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("the leaf holds another key")
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != boards.String() {
		t.Errorf("URIs = %v", leaf.URIs)
	}
	if leaf.Subject.String() != "" || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) != 0 || leaf.IsCA {
		t.Errorf("the request put something in: %v %v %v %v", leaf.Subject, leaf.DNSNames, leaf.IPAddresses, leaf.IsCA)
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("key usage %v", leaf.KeyUsage)
	}
	if d := cmp.Diff([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, leaf.ExtKeyUsage); d != "" {
		t.Error(d)
	}
	if got := leaf.NotAfter.Sub(leaf.NotBefore); got != 24*time.Hour+time.Minute {
		t.Errorf("lifetime %v", got)
	}
	mid := x509.NewCertPool()
	for _, s := range svid.Chain[1:] {
		mid.AddCert(parse(t, s))
	}
	for _, use := range leaf.ExtKeyUsage {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: c.Roots(), Intermediates: mid, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			t.Error(err)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	c := load(t, ca.Config{})
	good := request(t, ecKey(t, elliptic.P256()), nil)
	forged := append([]byte(nil), good...)
	forged[len(forged)-1] ^= 1
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		csr  []byte
		id   string
		want string
	}{
		{"garbage", []byte("x"), boards.String(), "ca: parse the certificate request: "},
		{"large", make([]byte, ca.MaxRequest+1), boards.String(), "ca: the certificate request is larger than 16384 bytes"},
		{"signature", forged, boards.String(), "ca: the certificate request is not signed by its own key: "},
		{"certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good}), boards.String(), `ca: a PEM block of type "CERTIFICATE" is no certificate request`},
		{"two", append(pemRequest(good), pemRequest(good)...), boards.String(), "ca: there is more than one certificate request"},
		{"P-224", request(t, ecKey(t, elliptic.P224()), nil), boards.String(), "ca: keys on curve P-224 are not signed, P-256 and P-384 are"},
		{"RSA 1024", request(t, weak, nil), boards.String(), "ca: RSA keys of 1024 bits are not signed, those of 2048 to 8192 are"},
		{"other trust domain", good, "spiffe://elsewhere/ns/shop/sa/boards", "ca: sign for spiffe://elsewhere/ns/shop/sa/boards: it is not of the trust domain cluster.local"},
		{"no path", good, "spiffe://cluster.local", "ca: sign for spiffe://cluster.local: an identity without a path names a trust domain, not a workload"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Sign(tt.csr, spiffeid.RequireFromString(tt.id), 0)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func pemRequest(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func TestSignAcceptsTheseKeys(t *testing.T) {
	c := load(t, ca.Config{})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"P-384": ecKey(t, elliptic.P384()), "RSA": rsaKey, "Ed25519": edKey} {
		if _, err := c.Sign(pemRequest(request(t, key, nil)), boards, 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLifetime(t *testing.T) {
	clk := &clock{start}
	c := load(t, ca.Config{Now: clk.now, IntermediateTTL: 10 * time.Hour, LeafTTL: 2 * time.Hour})
	csr := request(t, ecKey(t, elliptic.P256()), nil)
	for _, tt := range []struct {
		at, asked, want time.Duration // at after start, want from then
	}{
		{0, 0, 2 * time.Hour},
		{0, time.Second, 30 * time.Second},
		{0, time.Hour, time.Hour},
		{0, 100 * time.Hour, 2 * time.Hour},
		{9 * time.Hour, 0, time.Hour}, // the intermediate ends then
	} {
		clk.t = start.Add(tt.at)
		svid, err := c.Sign(csr, boards, tt.asked)
		if err != nil {
			t.Fatal(err)
		}
		if got := svid.NotAfter.Sub(clk.t); got != tt.want {
			t.Errorf("at %v asked %v: lives %v, want %v", tt.at, tt.asked, got, tt.want)
		}
	}
	clk.t = start.Add(11 * time.Hour)
	_, err := c.Sign(csr, boards, 0)
	if want := "ca: sign for " + boards.String() + ": the authority's certificates ended at 2026-03-03T07:08:03Z"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if _, err := ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: td, LeafTTL: time.Second}); err == nil || err.Error() != "ca: certificate lifetime 1s is shorter than 30s" {
		t.Error(err)
	}
}

func TestFilesAreForTheOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	load(t, ca.Config{Dir: dir})
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		names = append(names, e.Name())
	}
	if d := cmp.Diff([]string{"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem", "root-key.pem"}, names); d != "" {
		t.Error(d)
	}
}

func TestLoadAgainIsTheSame(t *testing.T) {
	dir := t.TempDir()
	a := load(t, ca.Config{Dir: dir})
	b := load(t, ca.Config{Dir: dir})
	if d := cmp.Diff(string(a.Bundle()), string(b.Bundle())); d != "" {
		t.Error(d)
	}
	ai, _ := a.Expiry()
	bi, _ := b.Expiry()
	if !ai.Equal(bi) {
		t.Errorf("the intermediate was made anew: %v, %v", ai, bi)
	}
}

// A crash before ca-cert.pem was written is continued from, with the same root.
func TestLoadContinuesAHalfMadeDirectory(t *testing.T) {
	dir := t.TempDir()
	a := load(t, ca.Config{Dir: dir})
	for _, f := range []string{"ca-cert.pem", "cert-chain.pem"} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	b := load(t, ca.Config{Dir: dir})
	if d := cmp.Diff(string(a.Bundle()), string(b.Bundle())); d != "" {
		t.Error(d)
	}
}

func TestIntermediateRenewsAtHalfLife(t *testing.T) {
	clk := &clock{start}
	c := load(t, ca.Config{Now: clk.now, IntermediateTTL: 100 * time.Hour})
	bundle := string(c.Bundle())
	before, _ := c.Expiry()
	clk.t = start.Add(49 * time.Hour)
	if err := c.Reload(); err != nil {
		t.Fatal(err)
	}
	if now, _ := c.Expiry(); !now.Equal(before) {
		t.Errorf("renewed before half its life: %v", now)
	}
	clk.t = start.Add(51 * time.Hour)
	if err := c.Reload(); err != nil {
		t.Fatal(err)
	}
	if now, _ := c.Expiry(); !now.Equal(clk.t.Add(100 * time.Hour)) {
		t.Errorf("not renewed: ends %v", now)
	}
	if bundle != string(c.Bundle()) {
		t.Error("the root changed")
	}
}

func TestServerRenewsItself(t *testing.T) {
	clk := &clock{start}
	c := load(t, ca.Config{Now: clk.now, LeafTTL: time.Hour})
	s, err := c.Server(boards)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := s.Certificate()
	clk.t = start.Add(29 * time.Minute)
	if same, _ := s.GetCertificate(nil); same != first {
		t.Error("renewed too early")
	}
	clk.t = start.Add(31 * time.Minute)
	second, err := s.Certificate()
	if err != nil || second == first {
		t.Fatalf("not renewed (%v)", err)
	}
	if err := c.Reload(); err != nil {
		t.Fatal(err)
	}
	if third, _ := s.Certificate(); third == second {
		t.Error("a reloaded authority did not sign anew")
	}
}
