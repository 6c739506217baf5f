package sandbox

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// Every test runs inside namespaces that Command made: once as the user who
// started it, and if that is root once more as an ordinary user. So the tests
// see what users see, and cannot touch the host.
const (
	insideEnv = "HASP_SANDBOX_TEST_INSIDE"
	proxyEnv  = "HASP_SANDBOX_TEST_PROXY"
	ordinary  = 65531 // the user id that stands for an ordinary user
)

func TestMain(m *testing.M) {
	if os.Getenv(proxyEnv) != "" {
		os.Exit(fakeProxy())
	}
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "probe":
			exit(ProbeInside())
		case "victim":
			exit(victim())
		}
	}
	if slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "-test.fuzz=") || a == "-test.fuzzworker" }) {
		os.Exit(m.Run()) // the targets are pure, and a worker has descriptors to keep
	}
	if os.Getenv(insideEnv) != "" {
		if err := Setup(Inside{}); err != nil {
			exit(err)
		}
		goleak.VerifyTestMain(m)
		return
	}
	if err := runInside(); err != nil {
		exit(err)
	}
	if os.Getuid() == 0 {
		if err := runAsOrdinary(); err != nil {
			exit(fmt.Errorf("as an ordinary user: %w", err))
		}
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runInside runs this test binary in a sandbox's namespaces.
func runInside() error {
	cmd, err := Command("/proc/self/exe", os.Args[1:], nil, Enter{})
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	return cmd.Run()
}

// runAsOrdinary runs this test binary as somebody else, from a copy, since go
// test's directory is root's.
func runAsOrdinary() error {
	dir, err := os.MkdirTemp("", "hasp-sandbox-test")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := copyForOthers("/proc/self/exe", dir)
	if err != nil {
		return err
	}
	// The files that go test asks for are written by root's run.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool {
		return strings.HasPrefix(a, "-test.testlogfile=") || strings.HasPrefix(a, "-test.coverprofile=") || strings.HasPrefix(a, "-test.gocoverdir=")
	})
	cmd := exec.Command(self, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinary, Gid: ordinary}}
	return cmd.Run()
}

func copyForOthers(file, dir string) (string, error) {
	to := filepath.Join(dir, "test")
	in, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return "", err
	}
	return to, errOr(out.Chmod(0o755), out.Close(), os.Chown(dir, ordinary, ordinary))
}

func errOr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
