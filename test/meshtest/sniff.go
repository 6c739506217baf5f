package meshtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"hasp/test/wire"
)

// bridge is the interface that every packet between pods crosses.
const bridge = "hasp0"

// Sniffer listens on the mesh's network.
type Sniffer struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   bytes.Buffer
	errs  *bufio.Reader
}

// Sniff starts to listen to every packet between pods. program is test/sniff,
// built.
func (m *Mesh) Sniff(t testing.TB, program string) *Sniffer {
	t.Helper()
	Need(t, "nsenter")
	return Listen(t, m.Cmd(context.Background(), append(m.enter(t), program, bridge)...))
}

// Listen starts test/sniff, as a command that runs it in some network says.
func Listen(t testing.TB, sniff *exec.Cmd) *Sniffer {
	t.Helper()
	s := &Sniffer{cmd: sniff}
	s.cmd.Stdout = &s.out
	in, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.stdin, s.errs = in, bufio.NewReader(errs)
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("start the capture: %v", err)
	}
	t.Cleanup(func() { s.cmd.Process.Kill(); s.cmd.Wait() })
	if line, err := s.errs.ReadString('\n'); strings.TrimSpace(line) != "listening" {
		t.Fatalf("the capture does not listen: %s (%v)", line, err)
	}
	return s
}

// enter is the start of a command that is to run in the mesh's network.
func (m *Mesh) enter(t testing.TB) []string {
	argv := []string{"nsenter", "-t", strconv.Itoa(m.Status(t).PID), "-n"}
	if !m.User.privileged() {
		argv = append(argv, "-U", "--preserve-credentials")
	}
	return append(argv, "--")
}

// Report stops the capture and says what was seen.
func (s *Sniffer) Report(t testing.TB) wire.Report {
	t.Helper()
	s.stdin.Close()
	rest, _ := io.ReadAll(s.errs)
	err := s.cmd.Wait()
	if err != nil {
		t.Fatalf("the capture: %v\n%s", err, rest)
	}
	var r wire.Report
	if err := json.Unmarshal(s.out.Bytes(), &r); err != nil {
		t.Fatalf("the capture's report: %v", err)
	}
	return r
}
