package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// process is a component that was started.
type process struct {
	component
	cmd  *exec.Cmd     // of nsenter, whose child it is
	done chan struct{} // closed when it has ended
}

// run a component in the node, its output in log/NAME.log.
func (n *Node) run(c component) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	log, err := os.OpenFile(n.logFile(c.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	argv := append(n.nsenter("--mount", "--net", "--pid", "--uts", "--ipc"), c.argv...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + systemPath, "HOME=" + n.layout.Dir}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	p := &process{component: c, cmd: cmd, done: make(chan struct{})}
	n.processes[c.name] = p
	go func() {
		cmd.Wait() // how it ended is in its state
		close(p.done)
	}()
	return nil
}

func (n *Node) logFile(name string) string { return n.layout.path("log", name+".log") }

// ended is an error when a component is no longer there.
func (n *Node) ended() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, p := range n.processes {
		select {
		case <-p.done:
			errs = append(errs, fmt.Errorf("%s has ended by itself: %s", p.name, p.cmd.ProcessState))
		default:
		}
	}
	return errors.Join(errs...)
}

// signal the program itself: nsenter stays outside, as its parent.
func (p *process) signal(s syscall.Signal) error {
	pid := strconv.Itoa(p.cmd.Process.Pid)
	children, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	if err != nil {
		return fmt.Errorf("find %s: %w", p.name, err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		return fmt.Errorf("find %s: %w", p.name, err)
	}
	if err := syscall.Kill(child, s); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// RestartKubelet kills the kubelet, as when it crashes, and starts it again.
// Containers go on meanwhile. It returns when the new one has its pods.
func (n *Node) RestartKubelet(ctx context.Context) error {
	n.mu.Lock()
	p := n.processes["kubelet"]
	n.mu.Unlock()
	if err := p.signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kube node: %w", err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return fmt.Errorf("kube node: wait for the kubelet to end: %w", ctx.Err())
	}
	if err := n.run(n.layout.kubelet()); err != nil {
		return fmt.Errorf("kube node: %w", err)
	}
	n.log.Info("kubelet restarted", slog.String("node", n.layout.Name))
	if err := n.until(ctx, "the kubelet to know its pods", func() error { return n.kubeletHasPods(ctx) }); err != nil {
		return fmt.Errorf("kube node: %w", err)
	}
	return nil
}

// kubeletHasPods asks the kubelet itself: it is healthy before it has read which
// pods it has, and until then knows of none that one could exec into.
func (n *Node) kubeletHasPods(ctx context.Context) error {
	out, err := n.Command(ctx, "kubectl", "get", "--raw", "/api/v1/nodes/"+n.layout.Name+"/proxy/pods").Output()
	if err != nil {
		return fmt.Errorf("ask the kubelet for its pods: %w", err)
	}
	var pods struct{ Items []json.RawMessage }
	if err := json.Unmarshal(out, &pods); err != nil {
		return fmt.Errorf("ask the kubelet for its pods: %w", err)
	}
	if len(pods.Items) == 0 {
		return errors.New("the kubelet has no pods yet")
	}
	return nil
}
