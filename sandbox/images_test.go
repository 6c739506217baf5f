package sandbox

import (
	"os"
	"path/filepath"
	"testing"
)

func TestImageName(t *testing.T) {
	for in, want := range map[string]string{
		"appropriate/curl":                       "appropriate/curl",
		"appropriate/curl:latest":                "appropriate/curl",
		"docker.io/appropriate/curl@sha256:0123": "appropriate/curl",
		"docker.io/library/busybox:1.36":         "busybox",
		"quay.io:443/x/y":                        "quay.io:443/x/y",
		"quay.io:443/x/y:v1":                     "quay.io:443/x/y",
		"localhost:5000/x:v1@sha256:0123":        "localhost:5000/x",
		"index.docker.io/library/redis":          "redis",
		"":                                       "",
	} {
		if got := imageName(in); got != want {
			t.Errorf("imageName(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestParseImages(t *testing.T) {
	im, err := parseImages([]byte("shop/api:\n  program: [/srv/api, --port, \"80\"]\n  env: {A: b}\ndocker.io/hasp/gateway:1:\n  gateway: true\n"))
	if err != nil {
		t.Fatal(err)
	}
	if api, err := im.Find("docker.io/shop/api:v2"); err != nil || len(api.Program) != 3 || api.Env["A"] != "b" {
		t.Errorf("shop/api: %+v, %v", api, err)
	}
	if gw, err := im.Find("hasp/gateway"); err != nil || !gw.Gateway {
		t.Errorf("hasp/gateway: %+v, %v", gw, err)
	}
	_, err = im.Find("nginx")
	if want := `no local program stands for image "nginx"; known images: hasp/gateway, shop/api`; err == nil || err.Error() != want {
		t.Errorf("Find(nginx): %v, want %s", err, want)
	}
}

func TestParseImagesRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"a: {gateway: true, program: [x]}": "a: a gateway is the mesh's own proxy and has no program",
		"a: {program: ['']}":               "a: program: the first word is empty",
		"'': {program: [x]}":               "an image has no name",
		"'a:1': {program: [x]}\n'a:2': {}": "a: named twice",
		"a: {programm: [x]}":               `error unmarshaling JSON: while decoding JSON: json: unknown field "programm"`,
	} {
		if _, err := parseImages([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("parseImages(%q): %v, want %s", in, err, want)
		}
	}
}

func TestLoadImagesSaysWhichFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "images.yaml")
	if err := os.WriteFile(file, []byte("a: {program: ['']}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadImages(file); err == nil || err.Error() != "sandbox: image table "+file+": a: program: the first word is empty" {
		t.Errorf("LoadImages: %v", err)
	}
}

func FuzzParseImages(f *testing.F) {
	f.Add([]byte("a: {program: [x]}"))
	f.Add([]byte("a: {gateway: true}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		im, err := parseImages(b)
		for name := range im {
			if _, err := im.Find(name); err != nil {
				t.Errorf("parsed, not found: %v", err)
			}
		}
		_ = err
	})
}

// A directory that the workload's user cannot enter comes after all others.
func TestOpenFirst(t *testing.T) {
	top, err := os.MkdirTemp("/tmp", "path") // t.TempDir is closed to others itself
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(top)
	shut, open := filepath.Join(top, "shut", "bin"), filepath.Join(top, "open")
	for _, dir := range []string{shut, open} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dir, mode := range map[string]os.FileMode{top: 0o755, open: 0o755, filepath.Dir(shut): 0o700} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := openFirst(shut+":"+open, os.Getuid()+1), open+":"+shut; got != want {
		t.Errorf("for another user: %s, want %s", got, want)
	}
	if got, want := openFirst(shut+":"+open, os.Getuid()), shut+":"+open; got != want {
		t.Errorf("for the same user: %s, want %s", got, want)
	}
}
