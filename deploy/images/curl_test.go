package main

import (
	"archive/tar"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// TestCurlRuns starts the image's entrypoint in its own file system, where
// nothing of this machine is.
func TestCurlRuns(t *testing.T) {
	img, err := build(t.Context(), recipeOf(t, "appropriate/curl"), built(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	unpack(t, mutate.Extract(img), dir)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "[]\n") }))
	defer server.Close()

	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	args := slices.Concat(config.Config.Entrypoint, []string{"-sS", server.URL})
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: dir, Cloneflags: syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) && os.Getenv("CI") == "" {
		t.Skip("no user namespaces here")
	}
	if err != nil || string(out) != "[]\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func unpack(t *testing.T, r io.ReadCloser, dir string) {
	t.Helper()
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(at, 0o755)
		} else {
			var b []byte
			if b, err = io.ReadAll(tr); err == nil {
				err = os.WriteFile(at, b, h.FileInfo().Mode())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestParseList(t *testing.T) {
	got, err := parseList(`	linux-vdso.so.1 (0x00007f77864a3000)
	libcurl.so.4 => /lib/x86_64-linux-gnu/libcurl.so.4 (0x00007f778639d000)
	/lib64/ld-linux-x86-64.so.2 => /lib/ld.so (0x00007f77864a5000)
	/lib64/ld-linux-x86-64.so.2 (0x00007f77864a5000)
`)
	if diff := cmp.Diff(got, []string{"/lib/x86_64-linux-gnu/libcurl.so.4"}); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := parseList("\tlibx.so => not found\n"); err == nil || err.Error() != "library libx.so: not found" {
		t.Errorf("got %v", err)
	}
}

// TestBill: the SBOM names the packages and modules, and nothing twice.
func TestBill(t *testing.T) {
	img, err := build(t.Context(), recipeOf(t, "appropriate/curl"), built(t))
	if err != nil {
		t.Fatal(err)
	}
	bill := string(img.sbom)
	for _, want := range []string{
		`"spdxVersion": "SPDX-2.3"`, `"pkg:deb/debian/curl@`, `"pkg:deb/debian/libc6@`, `"pkg:golang/golang.org/x/sys@v`, `"pkg:golang/stdlib@`,
		`"fileName": "./usr/bin/curl"`, `"fileName": "./usr/share/doc/curl/copyright"`, `"fileName": "./usr/local/bin/after-stdin"`,
	} {
		if !strings.Contains(bill, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if t.Failed() {
		t.Log(bill)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(bill) {
		if id := strings.TrimSpace(line); strings.HasPrefix(id, `"SPDXID"`) {
			if seen[id] {
				t.Errorf("%s twice", id)
			}
			seen[id] = true
		}
	}
}
