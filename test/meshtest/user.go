package meshtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// User is who runs a mesh.
type User struct {
	name string
	// uid and gid to become; 0 stays who the test is.
	id uint32
}

// ordinaryID is a user and group that no file belongs to and no database knows.
const ordinaryID = 61234

// Users are those a mesh is tested as: root and an ordinary user, or only the
// latter when the test is not root itself.
func Users() []User {
	if os.Geteuid() != 0 {
		return []User{{name: "ordinary user"}}
	}
	return []User{{name: "root"}, {name: "ordinary user", id: ordinaryID}}
}

// Ordinary is the user without privileges.
func Ordinary() User { u := Users(); return u[len(u)-1] }

// EachUser runs a test as every user.
func EachUser(t *testing.T, test func(t *testing.T, u User)) {
	for _, u := range Users() {
		t.Run(u.name, func(t *testing.T) { test(t, u) })
	}
}

// privileged: needs no user namespace.
func (u User) privileged() bool { return os.Geteuid() == 0 && u.id == 0 }

func (u User) String() string { return u.name }

// become makes a command run as the user, in a process group of its own.
func (u User) become(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if u.id != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: u.id, Gid: u.id}
	}
}

// dir is a home of the user's own. It is not t.TempDir, which only the test's
// own user can enter.
func (u User) dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hasp-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the mesh's directory: %v", err)
		}
	})
	for _, d := range []string{dir, filepath.Join(dir, "tmp")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if u.id != 0 {
			if err := os.Chown(d, int(u.id), int(u.id)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // not what the umask made of it
		t.Fatal(err)
	}
	return dir
}

// File is a path in the home of the mesh's user.
func (m *Mesh) File(name string) string { return filepath.Join(m.home, name) }

// Demo is the directory with the demo's manifests.
func (m *Mesh) Demo() string { return filepath.Join(filepath.Dir(m.Bin), "demo") }

// environment of the user's commands: little, and nothing of the test's own.
func (m *Mesh) environment() []string {
	return []string{
		"PATH=" + m.Bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + m.home, "TMPDIR=" + filepath.Join(m.home, "tmp"), "LANG=C.UTF-8",
		"HASP_STATE_DIR=" + m.State, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1",
	}
}
