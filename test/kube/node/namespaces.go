package node

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// namespaces live as long as their first process, which lives as long as its
// input is open: it is closed by close, and by the kernel when this program ends
// in whatever way.
type namespaces struct {
	init  *exec.Cmd
	stdin io.Closer
	once  sync.Once
}

// enter makes the namespaces and sets them up.
func enter(l layout) (*namespaces, error) {
	log, err := os.Create(l.path("log/init.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("/bin/sh", l.path("init.sh"), l.Dir, l.Name, l.IPv4, l.IPv6)
	cmd.Env = append(os.Environ(), "PATH="+systemPath)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid:     true, // Ctrl-C is for the program that started it
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make the namespaces: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make the namespaces: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("make the namespaces: %w", err)
	}
	s := &namespaces{init: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if strings.TrimSpace(line) != "ready" {
		s.close()
		says, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("set the namespaces up: %w: %s", errors.Join(err, fmt.Errorf("the first process said %q", line)), says)
	}
	return s, nil
}

// close kills the first process, and with it all the others.
func (s *namespaces) close() {
	s.once.Do(func() {
		s.stdin.Close()
		s.init.Process.Kill()
		s.init.Wait()
	})
}

// pid of the first process, as the machine sees it.
func (s *namespaces) pid() int { return s.init.Process.Pid }
