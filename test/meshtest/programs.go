package meshtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// programs is the directory with the mesh's programs, as "make build" left
// them. Where the user cannot reach it (a checkout below /root), it is a copy of
// them and of the demo's manifests in the user's home.
func (u User) programs(t testing.TB, home string) string {
	t.Helper()
	root, err := filepath.Abs(Root())
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(root, "bin")
	if !exists(filepath.Join(bin, "hasp")) || !exists(filepath.Join(bin, "hasp-proxy")) {
		t.Fatal("bin/hasp and bin/hasp-proxy are not there: make build")
	}
	if u.id == 0 || reachable(bin) {
		return bin
	}
	own := filepath.Join(home, "checkout")
	for _, dir := range []string{"bin", "demo/app", "demo/istio-configuration"} {
		if err := os.CopyFS(filepath.Join(own, dir), os.DirFS(filepath.Join(root, dir))); err != nil {
			t.Fatal(err)
		}
	}
	manifests, err := filepath.Glob(filepath.Join(root, "demo", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range manifests {
		b, err := os.ReadFile(m)
		if err == nil {
			err = os.WriteFile(filepath.Join(own, "demo", filepath.Base(m)), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(own, "bin")
}

// reachable reports whether everybody can enter a directory.
func reachable(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o005 != 0o005 {
			return false
		}
		if dir == "/" {
			return true
		}
	}
}

// Root of the project, seen from a test's directory.
func Root() string {
	for dir := "."; ; dir = filepath.Join("..", dir) {
		if exists(filepath.Join(dir, "go.mod")) {
			return dir
		}
		if abs, err := filepath.Abs(dir); err != nil || abs == "/" {
			return "."
		}
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// Build makes one of the programs under test/ ("sniff", "kube/cmd/pod") and puts it
// where pods and every user can run it.
func Build(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hasp-test-bin-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, filepath.Base(name))
	cmd := exec.Command("go", "build", "-o", file, "hasp/test/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build test/%s: %v\n%s", name, err, out)
	}
	return file
}

// Need makes sure that programs of others are there. Without one the test is
// skipped, but in CI it fails.
func Need(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := lookPath(name); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed: test/setup/debian.sh", name)
		}
		t.Skipf("%s is not installed: test/setup/debian.sh", name)
	}
}

// lookPath looks where pods do, and where Debian hides PostgreSQL's servers.
func lookPath(name string) (string, error) {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/postgresql/*/bin"} {
		found, err := filepath.Glob(filepath.Join(dir, name))
		if err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", exec.ErrNotFound
}
