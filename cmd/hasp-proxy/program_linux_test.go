package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestCaptureProgram runs the program as a pod's init container does: as user 0
// of a network namespace, with nothing but its own.
func TestCaptureProgram(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "capture", "-v", "--probe-ports=6379")
	cmd.Env = []string{asProgram + "=1"}
	var out, failed strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &failed
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		const why = "no user namespaces here: %v"
		if os.Getenv("CI") != "" {
			t.Fatalf(why, err)
		}
		t.Skipf(why, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, failed.String())
	}
	spec, _, err := parseCapture([]string{"--probe-ports=6379"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if want := spec.String() + "captured: 8 rules in nftables table hasp\n"; out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
