package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// built is a config whose directory of programs has after-stdin under every name
// that a recipe asks for.
func built(t *testing.T) config {
	t.Helper()
	c := config{bin: t.TempDir(), out: t.TempDir(), hub: "localhost:5000/hasp", tag: "1.2.3", revision: "c0ffee"}
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(c.bin, "one"), "./after-stdin")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, r := range recipes {
		at := filepath.Join(c.bin, r.program)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(c.bin, "one"), at); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	return c
}

func recipeOf(t *testing.T, called string) recipe {
	t.Helper()
	list, err := choose(recipes, []string{called})
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// listing is what an image's file system has, by path.
func listing(t *testing.T, img v1.Image) map[string]*tar.Header {
	t.Helper()
	r := mutate.Extract(img)
	defer r.Close()
	out := map[string]*tar.Header{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(h.Name, "/")] = h
	}
}

func TestImage(t *testing.T) {
	c := built(t)
	img, err := build(t.Context(), recipeOf(t, "hasp-proxy"), c)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := img.ref.String(), "localhost:5000/hasp/hasp-proxy:1.2.3"; got != want {
		t.Errorf("name %s, want %s", got, want)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		Entrypoint: []string{"/usr/local/bin/hasp-proxy"},
		User:       "1337:1337",
		WorkingDir: "/",
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "hasp-proxy",
			"org.opencontainers.image.description": "sidecar and ingress gateway of the hasp service mesh",
			"org.opencontainers.image.version":     "1.2.3",
			"org.opencontainers.image.revision":    "c0ffee",
		},
	}
	if diff := cmp.Diff(config.Config, want); diff != "" {
		t.Errorf("configuration (-got +want):\n%s", diff)
	}
	files := listing(t, img)
	for path, mode := range map[string]int64{
		"usr/local/bin/hasp-proxy": 0o755, "tmp": 0o1777, "etc/passwd": 0o644, "usr/share/sbom/hasp-proxy.spdx.json": 0o644,
	} {
		h := files[path]
		if h == nil {
			t.Errorf("%s is missing", path)
		} else if h.Mode != mode || h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s: %+v", path, h)
		}
	}
}

// TestUsers: what a meshed application runs as is not the user whose connections
// capture leaves alone.
func TestUsers(t *testing.T) {
	c := built(t)
	for _, r := range recipes {
		if !r.own() && r.user.uid == meshUser.uid {
			t.Errorf("%s runs as the sidecar's user", r.name)
		}
	}
	img, err := build(t.Context(), recipeOf(t, "hasp-demo/boards-mongodb"), c)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := img.ref.String(), "docker.io/hasp-demo/boards-mongodb:latest"; got != want {
		t.Errorf("name %s, want %s", got, want)
	}
	if h := listing(t, img)["data"]; h == nil || h.Uid != 65532 || h.Gid != 0 || h.Mode != 0o775 {
		t.Errorf("/data: %+v", h)
	}
}

func TestReproducible(t *testing.T) {
	c := built(t)
	for _, r := range recipes {
		var digests [2]v1.Hash
		for i := range digests {
			img, err := build(t.Context(), r, c)
			if err != nil {
				t.Fatal(err)
			}
			digests[i] = img.digest
		}
		if digests[0] != digests[1] {
			t.Errorf("%s: %s, then %s", r.name, digests[0], digests[1])
		}
	}
	one, err := build(t.Context(), recipeOf(t, "hasp"), c)
	if err != nil {
		t.Fatal(err)
	}
	c.tag = "1.2.4"
	two, err := build(t.Context(), recipeOf(t, "hasp"), c)
	if err != nil {
		t.Fatal(err)
	}
	if one.digest == two.digest {
		t.Error("another version has the same digest")
	}
}

func TestSaveAndPush(t *testing.T) {
	c := built(t)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	c.push, c.only = host+"/team", []string{"hasp", "hasp-demo/boards"}
	var out strings.Builder
	if err := run(t.Context(), c, &out); err != nil {
		t.Fatal(err)
	}
	for file, names := range map[string][2]string{
		"hasp":             {"localhost:5000/hasp/hasp:1.2.3", "team/hasp/hasp:1.2.3"},
		"hasp-demo-boards": {"docker.io/hasp-demo/boards:latest", "team/hasp-demo/boards:latest"},
	} {
		tag, err := name.NewTag(names[0])
		if err != nil {
			t.Fatal(err)
		}
		saved, err := tarball.ImageFromPath(filepath.Join(c.out, file+".tar"), &tag)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		ref, err := name.ParseReference(host + "/" + names[1])
		if err != nil {
			t.Fatal(err)
		}
		pushed, err := remote.Image(ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		digest, err := pushed.Digest()
		if err != nil || !strings.Contains(out.String(), names[0]+"@"+digest.String()) {
			t.Errorf("%s is %s, %v, which is not said:\n%s", ref, digest, err, &out)
		}
		if diff := cmp.Diff(id(t, saved), id(t, pushed)); diff != "" {
			t.Errorf("%s: saved and pushed differ:\n%s", file, diff)
		}
		if b, err := os.ReadFile(filepath.Join(c.out, file+".spdx.json")); err != nil || !json.Valid(b) {
			t.Errorf("%s: SBOM: %v", file, err)
		}
	}
}

// id is what an image is, however its layers are packed.
func id(t *testing.T, img v1.Image) string {
	t.Helper()
	h, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

func TestErrors(t *testing.T) {
	c := built(t)
	for _, tc := range []struct {
		name   string
		change func(*config)
		want   string
	}{
		{"a name nobody has", func(c *config) { c.only = []string{"nginx"} }, `no image is called "nginx"; there are hasp, `},
		{"no program", func(c *config) { c.bin = "/nowhere" }, "image hasp: open /nowhere/hasp: no such file or directory (make images builds it)"},
		{"a bad hub", func(c *config) { c.hub = "Localhost:5000/HASP" }, "(see --hub and --tag)"},
		{"a bad registry", func(c *config) { c.push = "a b" }, "(see --push)"},
		{"a dynamic program", func(c *config) { c.bin = dynamic(t) }, "hasp needs shared libraries: build it with CGO_ENABLED=0"},
	} {
		c := c
		c.only = []string{"hasp"}
		tc.change(&c)
		if err := run(t.Context(), c, io.Discard); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.name, err, tc.want)
		}
	}
}

// dynamic is a directory of programs with curl for hasp.
func dynamic(t *testing.T) string {
	dir := t.TempDir()
	if err := os.Symlink("/usr/bin/curl", filepath.Join(dir, "hasp")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--tag":   "flag needs an argument",
		"left":    `images: unexpected argument "left"`,
		"--help":  "images --only hasp-proxy,hasp-demo/boards",
		"--tag=1": "",
	} {
		var out strings.Builder
		_, err := parse(strings.Fields(args), &out)
		if (err == nil) != (want == "") || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, %s", args, err, &out)
		}
	}
}
