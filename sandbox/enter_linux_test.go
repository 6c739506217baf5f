package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

// TestProbe makes a whole small sandbox inside this one.
func TestProbe(t *testing.T) {
	if err := Probe("/proc/self/exe", "probe"); err != nil {
		t.Error(err)
	}
}

// TestProbeReports: what the child says is the error.
func TestProbeReports(t *testing.T) {
	err := Probe("/bin/sh", "-c", "echo 'sandbox: no such luck' >&2; exit 1")
	if err == nil || err.Error() != "sandbox: no such luck" {
		t.Errorf("Probe: %v", err)
	}
	if err := Probe("/no/such/program"); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("Probe of nothing: %v", err)
	}
}

// victimSleep is how long the victim's workload sleeps: a number to know it by.
const victimSleep = "31536001"

// victim is a sandbox with one process in it, which waits for its end.
func victim() error {
	if err := Setup(Inside{}); err != nil {
		return err
	}
	f, err := newFabric()
	if err != nil {
		return err
	}
	n, err := f.attach(address(2))
	if err != nil {
		return err
	}
	path, err := lookPath("sleep", DefaultPath)
	if err != nil {
		return err
	}
	p, err := launch{network: n, path: path, argv: []string{"sleep", victimSleep}, uid: workloadUID, gid: workloadUID}.start()
	if err != nil {
		return err
	}
	fmt.Println("up")
	_, err = p.Wait()
	return err
}

// TestKilledSandboxLeavesNothing: kill -9 of the process is the end of all it
// started.
func TestKilledSandboxLeavesNothing(t *testing.T) {
	cmd, err := Command("/proc/self/exe", []string{"victim"}, nil, Enter{Detach: true})
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("the victim said %q, %v", line, err)
	}
	if n := sleepers(t); n != 1 {
		t.Errorf("%d workloads run, want 1", n)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	// The kernel ends a process namespace before its process 1 can be waited for.
	if n := sleepers(t); n != 0 {
		t.Errorf("%d workloads still run", n)
	}
}

func sleepers(t *testing.T) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && string(b) == "sleep\x00"+victimSleep+"\x00" {
			n++
		}
	}
	return n
}

// TestProbeNamesTheSetting forbids user namespaces below this one.
func TestProbeNamesTheSetting(t *testing.T) {
	if !inUserNamespace() {
		return // root's pass has no user namespace: the setting would be the host's
	}
	const file = "/proc/sys/user/max_user_namespaces"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(file, before, 0o644)
	err = Probe("/proc/self/exe", "probe")
	const want = "sandbox: start a workload in a user namespace inside the sandbox: fork/exec "
	const fix = ": no space left on device (to allow it: sudo sysctl -w user.max_user_namespaces=15000)"
	if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), fix) {
		t.Errorf("Probe: %v", err)
	}
}

func TestForbidding(t *testing.T) {
	for _, c := range []struct {
		file, value, want string
	}{
		{"user/max_user_namespaces", "0\n", "sudo sysctl -w user.max_user_namespaces=15000"},
		{"user/max_user_namespaces", "1000\n", ""},
		{"kernel/unprivileged_userns_clone", "0\n", "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1\n", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		{"kernel/other", "0\n", ""},
	} {
		proc := fstest.MapFS{c.file: {Data: []byte(c.value)}}
		if got := forbidding(proc, userNamespaceSettings); got != c.want {
			t.Errorf("%s = %q: fix %q, want %q", c.file, c.value, got, c.want)
		}
	}
}

func TestMissingSaysWhatToDo(t *testing.T) {
	err := missingModule("make a bridge", "bridge", unix.EOPNOTSUPP)
	if got, want := err.Error(), "sandbox: make a bridge: operation not supported (to allow it: sudo modprobe bridge)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, unix.EOPNOTSUPP) {
		t.Error("the kernel's error is not in the chain")
	}
	if got, want := missingModule("make a bridge", "bridge", unix.EPERM).Error(), "sandbox: make a bridge: operation not permitted"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
