package meshtest

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// commandWithin is more than any command of a test may take.
const commandWithin = 4 * time.Minute

// Result of a command.
type Result struct {
	Line           string // as it would be typed
	Stdout, Stderr string
	Exit           int
	Err            error // nil when Exit is 0
}

// Output is all that was printed.
func (r Result) Output() string { return r.Stdout + r.Stderr }

// Must fail the test when the command did.
func (r Result) Must(t testing.TB) Result {
	t.Helper()
	if r.Err != nil {
		t.Fatalf("%s: %v\n%s", r.Line, r.Err, r.Output())
	}
	return r
}

// Hasp runs the hasp command.
func (m *Mesh) Hasp(t testing.TB, args ...string) Result {
	t.Helper()
	return m.run(t, "", append([]string{"hasp"}, args...)...)
}

// Kubectl runs "hasp kubectl".
func (m *Mesh) Kubectl(t testing.TB, args ...string) Result {
	t.Helper()
	return m.Hasp(t, append([]string{"kubectl"}, args...)...)
}

// KubectlInput gives it something to read.
func (m *Mesh) KubectlInput(t testing.TB, input string, args ...string) Result {
	t.Helper()
	return m.run(t, input, append([]string{"hasp", "kubectl"}, args...)...)
}

// run ends a command that takes too long, which is then its error.
func (m *Mesh) run(t testing.TB, input string, argv ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandWithin)
	defer cancel()
	r := m.command(ctx, input, argv...)
	if ctx.Err() != nil {
		r.Err = fmt.Errorf("did not end within %s", commandWithin)
	}
	return r
}

func (m *Mesh) command(ctx context.Context, input string, argv ...string) Result {
	cmd := m.Cmd(ctx, argv...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errOut
	err := cmd.Run()
	exit := -1
	if cmd.ProcessState != nil {
		exit = cmd.ProcessState.ExitCode()
	}
	return Result{Line: strings.Join(argv, " "), Stdout: out.String(), Stderr: errOut.String(), Exit: exit, Err: err}
}

// Cmd is a command as the mesh's user would start it. A name without a slash
// that is one of the mesh's programs means that program. When ctx ends, what
// the command started ends with it.
func (m *Mesh) Cmd(ctx context.Context, argv ...string) *exec.Cmd {
	name := argv[0]
	if own := filepath.Join(m.Bin, name); !strings.Contains(name, "/") && exists(own) {
		name = own
	}
	cmd := exec.CommandContext(ctx, name, argv[1:]...)
	cmd.Env, cmd.Dir = m.environment(), m.home
	m.User.become(cmd)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}
