package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// codeCannotRun is the exit code of what never ran, as of "docker run".
const codeCannotRun = 125

// once runs the container's program one time and gives its exit code.
func (c *container) once(ctx context.Context, grace func() time.Duration) int {
	begin := metav1.Now()
	l, err := createLog(c.logDir(), int(c.restarts))
	if err != nil {
		return c.ended(begin, codeCannotRun, "StartError", err.Error())
	}
	defer l.close()
	c.mu.Lock()
	c.log = l
	c.mu.Unlock()
	r, err := c.begin(ctx, l)
	if err != nil {
		l.close()
		return c.ended(begin, codeCannotRun, "StartError", err.Error())
	}
	c.set(func() {
		c.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: begin}}
		c.started = c.spec.StartupProbe == nil
		c.ready = c.started && c.spec.ReadinessProbe == nil
	})
	code, reason, message := c.watch(ctx, r, grace)
	l.close()
	return c.ended(begin, code, reason, message)
}

func (c *container) ended(begin metav1.Time, code int, reason, message string) int {
	c.set(func() {
		c.started, c.ready = false, false
		c.state = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: int32(code), Reason: reason, Message: message, StartedAt: begin, FinishedAt: metav1.Now(),
			ContainerID: "hasp://" + string(c.p.uid) + "/" + c.spec.Name,
		}}
	})
	return code
}

// running is a program that runs.
type running struct {
	process *os.Process
	output  sync.WaitGroup
	stdin   *os.File
	ended   chan struct{}
	state   *os.ProcessState // when ended is closed
}

// begin starts the program, its output going to the log.
func (c *container) begin(ctx context.Context, l *containerLog) (*running, error) {
	n, err := c.prepare(ctx)
	if err != nil {
		return nil, err
	}
	defer n.close()
	r := &running{ended: make(chan struct{})}
	if err := r.plumb(n, l, c.spec.Stdin); err != nil {
		return nil, err
	}
	if r.process, err = n.start(); err != nil {
		n.close() // the writing ends, so that the readers end
		r.output.Wait()
		r.closeStdin()
		return nil, fmt.Errorf("start %s: %w", n.path, bare(err))
	}
	c.mu.Lock()
	c.stdin = r.stdin
	c.mu.Unlock()
	go func() {
		defer close(r.ended)
		r.state, _ = r.process.Wait()
	}()
	return r, nil
}

// bare is what went wrong, without what was attempted.
func bare(err error) error {
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// plumb makes the program's standard streams.
func (r *running) plumb(n *prepared, l *containerLog, interactive bool) error {
	in, err := os.Open(os.DevNull)
	if interactive {
		in, r.stdin, err = os.Pipe()
	}
	if err != nil {
		return err
	}
	std := []*os.File{in}
	for _, s := range []stream{streamOut, streamErr} {
		read, write, err := os.Pipe()
		if err != nil {
			return err
		}
		std = append(std, write)
		r.output.Go(func() {
			defer read.Close()
			_ = l.copyFrom(read, s) // a full disk must not stop the program
		})
	}
	n.files = append(std, n.files...)
	n.mine = append(n.mine, std...)
	return nil
}

func (r *running) closeStdin() {
	if r.stdin != nil {
		r.stdin.Close()
	}
}

// watch waits for the end of the program, probes it, and ends it when ctx ends
// or a probe says so.
func (c *container) watch(ctx context.Context, r *running, grace func() time.Duration) (code int, reason, message string) {
	probing, stop := context.WithCancel(ctx)
	var probes sync.WaitGroup
	sick := make(chan string, 1)
	probes.Go(func() { c.probe(probing, sick) })
	select {
	case <-r.ended:
	case <-ctx.Done():
		c.set(func() { c.ready = false })
		r.end(grace())
	case message = <-sick:
		c.p.s.log.Warn("container killed", "pod", c.p.name(), "container", c.spec.Name, "why", message)
		r.end(grace())
	}
	stop()
	probes.Wait()
	c.mu.Lock()
	c.stdin = nil
	c.mu.Unlock()
	r.closeStdin()
	r.output.Wait()
	code = exitCode(r.state)
	if code == 0 {
		return 0, "Completed", message
	}
	return code, "Error", message
}

// end asks the program to end, and makes it. Being process 1 of its namespace,
// a program that does not handle the signal would not even get it: there is
// nothing to wait for.
func (r *running) end(grace time.Duration) {
	if handles(r.process.Pid, syscall.SIGTERM) {
		_ = r.process.Signal(syscall.SIGTERM) // it may have ended
	} else {
		grace = 0
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-r.ended:
		return
	case <-t.C:
	}
	_ = r.process.Kill()
	<-r.ended
}

// handles reports whether a process has a handler for a signal.
func handles(pid int, sig syscall.Signal) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true // it is gone, or cannot be asked
	}
	for line := range strings.Lines(string(status)) {
		if mask, ok := strings.CutPrefix(line, "SigCgt:"); ok {
			caught, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err != nil || caught&(1<<(sig-1)) != 0
		}
	}
	return true
}

// exitCode is a program's, or as in a shell 128 and the signal that ended it.
func exitCode(s *os.ProcessState) int {
	if s == nil {
		return 255
	}
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return s.ExitCode()
}
