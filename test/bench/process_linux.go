package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a program of the lab with all that it started.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start runs a program until stop; what it says goes to a file.
func (l *lab) start(name string, env []string, program string, args ...string) (*process, error) {
	program, err := find(program)
	if err != nil {
		return nil, err
	}
	log := filepath.Join(l.dir, name+".log")
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.dir, out, out
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	l.started.Store(cmd.Process.Pid, true)
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended shows in what was measured
	}()
	return p, nil
}

// kill ends all programs of the lab at once: what waits for one then fails.
func (l *lab) kill() {
	l.started.Range(func(pid, _ any) bool {
		_ = syscall.Kill(-pid.(int), syscall.SIGKILL)
		return true
	})
}

// stop ends the process and its children, in order if they can.
func (p *process) stop() {
	group := -p.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
	}
	_ = syscall.Kill(group, syscall.SIGKILL)
	<-p.done
}

// tail is the end of what the process said.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(b[max(0, len(b)-2000):]))
}

// family is the process and its descendants, parents first.
func (p *process) family() ([]int, error) {
	select {
	case <-p.done:
		return nil, fmt.Errorf("%s has ended:\n%s", p.cmd.Path, p.tail())
	default:
	}
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				continue // a thread that has ended
			}
			for _, word := range strings.Fields(string(b)) {
				pid, err := strconv.Atoi(word)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", f, err)
				}
				all = append(all, pid)
			}
		}
	}
	return all, nil
}

// cpuTime is what all processes of the family have used, to the nanosecond:
// their CPU clocks count threads that have ended, too.
func (p *process) cpuTime() (time.Duration, error) {
	pids, err := p.family()
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range pids {
		var t unix.Timespec
		// The clock's number is that of clock_getcpuclockid(3): CPUCLOCK_SCHED.
		if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
			return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}

// memory of processes, in bytes.
type memory struct {
	// resident is all; children count with what they do not share with their
	// parent.
	resident int64
	// own is without files, such as the program: how much of those is mapped is the
	// kernel's choice at each fault, by what it has in its cache. What processes
	// share counts once.
	own int64
}

func (m *memory) add(n memory) { m.resident += n.resident; m.own += n.own }

// memory of the family.
func (p *process) memory() (sum memory, err error) {
	pids, err := p.family()
	if err != nil {
		return sum, err
	}
	for i, pid := range pids {
		f, err := rollup(pid)
		if err != nil {
			return sum, err
		}
		m := memory{resident: f["Rss"], own: f["Pss_Anon"] + f["Pss_Shmem"]}
		if i > 0 {
			m.resident = f["Private_Clean"] + f["Private_Dirty"]
		}
		sum.add(m)
	}
	return sum, nil
}

// rollup reads the bytes of /proc/PID/smaps_rollup.
func rollup(pid int) (map[string]int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("memory of process %d: %w", pid, err)
			}
			out[strings.TrimSuffix(f[0], ":")] = n << 10
		}
	}
	if out["Rss"] == 0 || out["Pss_Anon"] == 0 { // the latter since Linux 5.3
		return nil, fmt.Errorf("memory of process %d: the kernel does not say", pid)
	}
	return out, nil
}

// files is how many descriptors a process of the lab may need: the workload has
// the idle connections of all pairs.
const files = 16_000

// moreFiles raises the limit of descriptors for this process and all it starts.
func moreFiles() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Max < files {
		return fmt.Errorf("the limit of open files is %d; raise it to %d with ulimit -n", l.Max, files)
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}
