package node

import (
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// TestWrite: what a node is started with is whole, before anything is started.
func TestWrite(t *testing.T) {
	l := newLayout(Config{Dir: t.TempDir(), Bin: "/bin/kube", Images: "/images", Programs: map[string]string{"test/b": "/b", "test/a": "/a"}}, "hasp-kube-1-1")
	if err := l.write(); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(l.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, hole := range []string{"{{", "<no value>"} {
			if strings.Contains(string(b), hole) {
				t.Errorf("%s still has %q", path, hole)
			}
		}
		if info, err := d.Info(); err != nil || strings.HasSuffix(path, ".key") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %s (%v)", path, info.Mode(), err)
		}
		if filepath.Ext(path) != ".yaml" && filepath.Ext(path) != ".conflist" {
			return nil
		}
		for i, doc := range strings.Split(string(b), "\n---\n") {
			var object map[string]any
			if err := yaml.UnmarshalStrict([]byte(doc), &object); err != nil {
				t.Errorf("%s, document %d: %v", path, i+1, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	argv := l.foundation()[3].argv
	if got, want := strings.Join(argv[len(argv)-2:], " "), "test/a=/a test/b=/b"; got != want {
		t.Errorf("the registry is given %q at the end, want %q", got, want)
	}
}

// TestIdentities: each certificate is the CA's, and is who it is to be.
func TestIdentities(t *testing.T) {
	l := newLayout(Config{Dir: t.TempDir()}, "")
	if err := l.writePKI(); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(l.path("pki/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("the CA's certificate is none")
	}
	for _, id := range l.identities() {
		pair, err := tls.LoadX509KeyPair(l.path("pki", id.file+".crt"), l.path("pki", id.file+".key"))
		if err != nil {
			t.Errorf("%s: %v", id.file, err)
			continue
		}
		if pair.Leaf.Subject.CommonName != id.name || strings.Join(pair.Leaf.Subject.Organization, " ") != strings.Join(id.groups, " ") {
			t.Errorf("%s is %s, want %s of %s", id.file, pair.Leaf.Subject, id.name, id.groups)
		}
		for _, host := range append(id.hosts, "") {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
				t.Errorf("%s as %q: %v", id.file, host, err)
			}
		}
		if !id.config {
			continue
		}
		config, err := clientcmd.LoadFromFile(l.path("pki", id.file+".conf"))
		if err != nil {
			t.Errorf("%s: %v", id.file, err)
			continue
		}
		if got, want := config.Clusters["kube"].Server, "https://172.30.0.2:6443"; got != want {
			t.Errorf("%s.conf leads to %s, want %s", id.file, got, want)
		}
	}
}

func TestTail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte("one\ntwo\n"+strings.Repeat("x", 500)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, want := tail(file, 2), "two\n"+strings.Repeat("x", 400); got != want {
		t.Errorf("tail is %q, want %q", got, want)
	}
}
