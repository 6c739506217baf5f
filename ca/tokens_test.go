package ca_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"hasp/ca"
)

func verify(cert *tls.Certificate, roots *x509.CertPool) error {
	mid := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		mid.AddCert(c)
	}
	_, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: mid})
	return err
}

func TestTokens(t *testing.T) {
	clk := &clock{start}
	tokens := ca.NewTokens(2, clk.now)
	issue := func() string {
		t.Helper()
		s, err := tokens.Issue(boards, "shop/boards-1", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	refused := func(what, token, workload string) {
		t.Helper()
		if _, err := tokens.Redeem(token, workload); !errors.Is(err, ca.ErrToken) {
			t.Errorf("%s: got %v", what, err)
		}
	}

	a := issue()
	if len(a) != 43 {
		t.Errorf("token %q does not hold 256 bits", a)
	}
	g, err := tokens.Redeem(a, "shop/boards-1")
	if err != nil || g.ID != boards || g.Workload != "shop/boards-1" {
		t.Errorf("got %v, %v", g, err)
	}
	refused("used", a, "shop/boards-1")
	refused("unknown", "guess", "")

	b := issue()
	refused("another workload", b, "shop/rogue")
	refused("after another workload showed it", b, "shop/boards-1")

	c := issue()
	clk.t = start.Add(time.Minute)
	refused("expired", c, "")

	d := issue()
	tokens.Revoke("shop/boards-1")
	refused("revoked", d, "")
}

func TestTokensAreBounded(t *testing.T) {
	clk := &clock{start}
	tokens := ca.NewTokens(2, clk.now)
	for range 2 {
		if _, err := tokens.Issue(boards, "shop/boards-1", time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	_, err := tokens.Issue(boards, "shop/boards-1", time.Minute)
	if want := "ca: 2 join tokens wait to be used, which is the limit"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	clk.t = start.Add(time.Hour)
	if _, err := tokens.Issue(boards, "shop/boards-1", time.Minute); err != nil {
		t.Errorf("expired tokens still count: %v", err)
	}
}
