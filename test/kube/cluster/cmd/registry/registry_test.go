package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// mirror is a registry that is empty.
func mirror(t *testing.T) (address string) {
	t.Helper()
	s := httptest.NewServer(registry.New())
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// TestArchives: every image is where a kubelet's mirror looks for it, whatever
// registry its reference names.
func TestArchives(t *testing.T) {
	dir := t.TempDir()
	want := map[string]string{} // digest by where it is to be
	for file, names := range map[string][2]string{
		"a.tar": {"docker.io/hasp-demo/boards:latest", "hasp-demo/boards:latest"},
		"b.tar": {"localhost:5000/hasp/hasp:1.2", "hasp/hasp:1.2"},
		"c.tar": {"busybox", "library/busybox:latest"},
	} {
		img, err := random.Image(100, 2)
		if err != nil {
			t.Fatal(err)
		}
		tag, err := name.NewTag(names[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := tarball.WriteToFile(filepath.Join(dir, file), tag, img); err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		want[names[1]] = config.String()
	}
	address := mirror(t)
	if err := pushArchives(address, dir); err != nil {
		t.Fatal(err)
	}
	for at, config := range want {
		if got := pulled(t, address, at); got != config {
			t.Errorf("%s has the configuration %s, want %s", at, got, config)
		}
	}
}

func TestProgramImage(t *testing.T) {
	program := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(program, []byte("a program"), 0o644); err != nil {
		t.Fatal(err)
	}
	img, err := programImage(program)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(config.Config.Entrypoint, " "); got != "/pause" || config.OS != "linux" {
		t.Errorf("its entrypoint is %q on %s", got, config.OS)
	}
	address := mirror(t)
	if err := push(address, "registry.k8s.io/pause:3.10", img); err != nil {
		t.Fatal(err)
	}
	want, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if got := pulled(t, address, "pause:3.10"); got != want.String() {
		t.Errorf("pause:3.10 has the configuration %s, want %s", got, want)
	}
}

func TestRefused(t *testing.T) {
	if err := pushArchives("", t.TempDir()); err == nil || !strings.HasSuffix(err.Error(), "has no image archive (*.tar): build them first") {
		t.Errorf("an empty directory: %v", err)
	}
	if err := push("localhost:1", "no reference", nil); err == nil || !strings.HasPrefix(err.Error(), `image reference "no reference": `) {
		t.Errorf("a bad reference: %v", err)
	}
}

// pulled is the digest of the configuration of an image.
func pulled(t *testing.T, address, at string) string {
	t.Helper()
	ref, err := name.NewTag(address+"/"+at, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return config.String()
}
