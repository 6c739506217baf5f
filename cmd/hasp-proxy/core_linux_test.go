package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// A proxy leaves no core file from before it reads its bootstrap, whatever the
// limit was that it was started with.
func TestNoCore(t *testing.T) {
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &was); err != nil {
		t.Fatal(err)
	}
	want := min(was.Max, 1)
	silent, w, err := os.Pipe() // a bootstrap that does not come
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{asProgram + "=1"}
	cmd.ExtraFiles = []*os.File{silent}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		w.Close() // ends it
		_ = cmd.Wait()
	}()
	ok := regexp.MustCompile(fmt.Sprintf(`(?m)^Max core file size +%d +%[1]d +bytes`, want))
	var limits []byte
	for end := time.Now().Add(30 * time.Second); !ok.Match(limits); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the limit was not set in time:\n%s", limits)
		}
		if limits, err = os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
}
