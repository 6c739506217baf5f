package csr

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"hasp/ca"
)

func TestCheck(t *testing.T) {
	authority, err := ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	other, err := ca.Load(ca.Config{Dir: t.TempDir(), TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Issue(boards, 0)
	if err != nil {
		t.Fatal(err)
	}
	key := cert.PrivateKey.(*ecdsa.PrivateKey)
	var good []string
	for _, der := range cert.Certificate {
		good = append(good, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	}
	root := string(authority.Bundle())
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := check(append(good, root), key, boards); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		name  string
		chain []string
		key   *ecdsa.PrivateKey
		want  string
	}{
		{"empty", nil, key, "a chain of 0 parts has no root"},
		{"leaf only", good[:1], key, "a chain of 1 parts has no root"},
		{"no roots", append(good, "x"), key, "the last part of the chain holds no root"},
		{"not PEM", []string{"x", root}, key, "part 0 of the chain is not PEM"},
		{"another key", append(good, root), stranger, "it is for another key"},
		{"another root", append(good, string(other.Bundle())), key, "x509: certificate signed by unknown authority"},
		{"no intermediate", []string{good[0], root}, key, "x509: certificate signed by unknown authority"},
	} {
		if _, err := check(tt.chain, tt.key, boards); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
	if _, err := check(append(good, root), key, rogue); err == nil || err.Error() != "it is for "+boards.String()+", want "+rogue.String() {
		t.Error(err)
	}
}

func TestSchedule(t *testing.T) {
	now := time.Now()
	for range 100 {
		if d := halfLife(now, now.Add(time.Hour)); d < 27*time.Minute || d > 33*time.Minute {
			t.Fatalf("half of an hour is %v", d)
		}
	}
	for n := 1; n < 100; n++ {
		if d := backoff(n); d > maxWait || d < minWait*4/5 {
			t.Fatalf("backoff(%d) = %v", n, d)
		}
	}
}

func FuzzCheck(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("", "")
	f.Add("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, leaf, roots string) {
		if _, err := check([]string{leaf, roots}, key, boards); err == nil {
			t.Error("a chain for a key nobody signed was taken")
		}
	})
}
