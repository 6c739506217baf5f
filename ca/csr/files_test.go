package csr

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/ca"
)

// fakeAccounts verifies tokens as a cluster's TokenReview would: again and
// again, until they are taken away.
type fakeAccounts struct {
	mu     sync.Mutex
	tokens map[string]spiffeid.ID
	asked  int
}

func (f *fakeAccounts) Verify(_ context.Context, token, _ string) (spiffeid.ID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if id, ok := f.tokens[token]; ok {
		return id, nil
	}
	return spiffeid.ID{}, errors.New("the token is not valid")
}

func (f *fakeAccounts) only(token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens = map[string]spiffeid.ID{token: boards}
}

// volume is a directory that is written as a kubelet does it: into a new
// directory, to which a link is moved.
type volume struct{ dir, last string }

func (v *volume) file(name string) string { return filepath.Join(v.dir, name) }

func (v *volume) write(t *testing.T, files map[string]string) {
	t.Helper()
	next, err := os.MkdirTemp(v.dir, "..2026_")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(next, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..data", name), v.file(name)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	link := v.file("..data_tmp")
	if err := errors.Join(os.Symlink(filepath.Base(next), link), os.Rename(link, v.file("..data"))); err != nil {
		t.Fatal(err)
	}
	if v.last != "" {
		os.RemoveAll(v.last)
	}
	v.last = next
}

// podSource is a Source as a pod has it, whose control plane is where at says.
func podSource(t *testing.T, v *volume, at func() string, log *slog.Logger) *Source {
	t.Helper()
	s, err := NewSource(SourceConfig{
		Target: "istiod.istio-system.svc:15012", ServerID: istiod, ID: boards, Workload: "shop/boards-1",
		RootsFile: v.file("root-cert.pem"), TokenFile: v.file("istio-token"), Log: log,
		Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", at())
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.look, s.spread = 20*time.Millisecond, time.Millisecond
	return s
}

// patience is how long anything may take on a busy machine under the race
// detector.
const patience = time.Minute

// until waits for a condition that no channel tells of.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// The files of a pod may come late, one after the other: the Source says what
// it waits for, once, and goes on by itself.
func TestFilesComeLate(t *testing.T) {
	accounts := &fakeAccounts{}
	accounts.only("first")
	p := newPlane(t, ca.Config{}, ServerConfig{Verifiers: []Verifier{accounts}}, istiod)
	v := &volume{dir: t.TempDir()}
	var out lockedBuffer
	s := podSource(t, v, func() string { return p.addr }, slog.New(slog.NewTextHandler(&out, nil)))
	run(t, s)
	waits := "roots: open " + v.file("root-cert.pem") + ": no such file or directory"
	until(t, "the line about the roots", func() bool { return strings.Contains(out.String(), waits) })
	if _, err := s.Certificate(); err == nil || err.Error() != "csr: there is no certificate yet: "+waits {
		t.Errorf("Certificate: %v", err)
	}
	if err := s.verifyControlPlane(tlsState(t, p.ca)); err == nil || err.Error() != "csr: the control plane: there are no roots to verify it by" {
		t.Errorf("without roots: %v", err)
	}
	v.write(t, map[string]string{"root-cert.pem": string(p.ca.Bundle())})
	until(t, "the line about the token", func() bool {
		return strings.Contains(out.String(), "token: open "+v.file("istio-token")+": no such file or directory")
	})
	v.write(t, map[string]string{"root-cert.pem": string(p.ca.Bundle()), "istio-token": "first\n"})
	await(t, s.Ready(), "the certificate")
	if n := strings.Count(out.String(), waits); n != 1 {
		t.Errorf("the wait for the roots is logged %d times\n%s", n, out.String())
	}
	if strings.Contains(out.String(), "first") {
		t.Error("the token is in the log")
	}
}

// A control plane comes back with another authority: the roots' file says so,
// nobody accepts the old certificate, and the token of the moment gets a new
// one. The Source was not started anew.
func TestAuthorityReplaced(t *testing.T) {
	accounts := &fakeAccounts{}
	accounts.only("first")
	old := newPlane(t, ca.Config{}, ServerConfig{Verifiers: []Verifier{accounts}}, istiod)
	next := newPlane(t, ca.Config{}, ServerConfig{Verifiers: []Verifier{accounts}}, istiod)
	var mu sync.Mutex
	at := old
	v := &volume{dir: t.TempDir()}
	v.write(t, map[string]string{"root-cert.pem": string(old.ca.Bundle()), "istio-token": "first"})
	s := podSource(t, v, func() string { mu.Lock(); defer mu.Unlock(); return at.addr }, slog.New(slog.DiscardHandler))
	run(t, s)
	await(t, s.Ready(), "the first certificate")
	first, err := s.Certificate()
	if err != nil {
		t.Fatal(err)
	}

	old.stop()
	mu.Lock()
	at = next
	mu.Unlock()
	accounts.only("second")
	v.write(t, map[string]string{"root-cert.pem": string(next.ca.Bundle()), "istio-token": "second"})
	until(t, "a certificate of the new authority", func() bool {
		c, err := s.Certificate()
		return err == nil && !bytes.Equal(c.Leaf.AuthorityKeyId, first.Leaf.AuthorityKeyId)
	})
	if err := s.verifyControlPlane(tlsState(t, next.ca)); err != nil {
		t.Errorf("the new control plane: %v", err)
	}
	if err := s.verifyControlPlane(tlsState(t, old.ca)); err == nil {
		t.Error("the old authority is trusted still")
	}
}

// After an outage longer than a certificate's life the token of the file brings
// the workload back, though it is refused at first.
func TestOutageOutlastsCertificate(t *testing.T) {
	accounts := &fakeAccounts{}
	accounts.only("first")
	p := newPlane(t, ca.Config{}, ServerConfig{Verifiers: []Verifier{accounts}}, istiod)
	v := &volume{dir: t.TempDir()}
	v.write(t, map[string]string{"root-cert.pem": string(p.ca.Bundle()), "istio-token": "first"})
	s := podSource(t, v, func() string { return p.addr }, slog.New(slog.DiscardHandler))
	s.due = func(time.Time, time.Time) time.Duration { return 0 }
	late := clockOf(s)
	run(t, s)
	await(t, s.Ready(), "the first certificate")
	accounts.only("second")
	late.Store(true)
	until(t, "a refusal after the end", func() bool {
		err := s.Status().Err
		return err != nil && strings.HasPrefix(err.Error(), "the certificate ended at ") && strings.HasSuffix(err.Error(), "desc = the token is not valid")
	})
	v.write(t, map[string]string{"root-cert.pem": string(p.ca.Bundle()), "istio-token": "second"})
	late.Store(false) // what is issued now is good
	until(t, "a certificate again", func() bool { _, err := s.Certificate(); return err == nil })
}

// A file of roots that goes bad is logged once, and the roots it had stay.
func TestRootsGoBad(t *testing.T) {
	p := newPlane(t, ca.Config{}, ServerConfig{}, istiod)
	v := &volume{dir: t.TempDir()}
	v.write(t, map[string]string{"root-cert.pem": string(p.ca.Bundle())})
	var out lockedBuffer
	s := podSource(t, v, func() string { return p.addr }, slog.New(slog.NewTextHandler(&out, nil)))
	for _, content := range []string{string(p.ca.Bundle()), "no PEM", "no PEM", "", strings.Repeat("x", maxRoots+1)} {
		v.write(t, map[string]string{"root-cert.pem": content})
		if err := s.readRoots(); err != nil {
			t.Error(err)
		}
	}
	if err := s.verifyControlPlane(tlsState(t, p.ca)); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"root-cert.pem holds no certificate", "root-cert.pem is empty", "root-cert.pem has more than 1048576 bytes"} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("not said once: %s\n%s", want, out.String())
		}
	}
}

func TestTokenOfFile(t *testing.T) {
	v := &volume{dir: t.TempDir()}
	s := podSource(t, v, nil, slog.New(slog.DiscardHandler))
	for _, tt := range []struct{ content, token, err string }{
		{"eyJhbGciOi.e30.c2ln\n", "eyJhbGciOi.e30.c2ln", ""},
		{"", "", "token: " + v.file("istio-token") + " is empty"},
		{" \n", "", "token: " + v.file("istio-token") + " holds no token"},
		{"two words", "", "token: " + v.file("istio-token") + " holds no token"},
		{"caf\u00e9", "", "token: " + v.file("istio-token") + " holds no token"},
		{strings.Repeat("x", maxToken+1), "", "token: " + v.file("istio-token") + " has more than 16384 bytes"},
	} {
		v.write(t, map[string]string{"istio-token": tt.content})
		token, err := s.token()
		if token != tt.token || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%.20q: got %q, %v", tt.content, token, err)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
