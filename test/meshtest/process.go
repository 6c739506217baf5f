package meshtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Process of this machine, as the host sees it.
type Process struct {
	PID, Parent int
	Program     string // the name of the file it runs
	Args        []string
	start       string // tells it from a later one with its number
}

func (p Process) String() string { return fmt.Sprintf("%d %s", p.PID, strings.Join(p.Args, " ")) }

// Family is a process and all that descends from it: of the daemon, the whole
// mesh.
func Family(t testing.TB, pid int) []Process {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]Process{}
	for _, f := range files {
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			if p, err := readProcess(n); err == nil {
				all[n] = p
			}
		}
	}
	var out []Process
	for _, p := range all {
		for at := p; ; at = all[at.Parent] {
			if at.PID == pid {
				out = append(out, p)
				break
			}
			if at.PID == 0 {
				break
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("there is no process %d", pid)
	}
	return out
}

// readProcess reads /proc/PID; one that only waits to be reaped does not exist.
func readProcess(pid int) (Process, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Process{}, err
	}
	// The name, in parentheses, may contain anything.
	rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	f := strings.Fields(rest) // from the third field on
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return Process{}, errors.New("ended")
	}
	p := Process{PID: pid, start: f[19]}
	p.Parent, _ = strconv.Atoi(f[1])
	args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	p.Args = strings.Split(strings.TrimRight(string(args), "\x00"), "\x00")
	p.Program = filepath.Base(p.Args[0])
	return p, nil
}

// Alive reports whether it still runs.
func (p Process) Alive() bool {
	now, err := readProcess(p.PID)
	return err == nil && now.start == p.start
}

// Kill as kill -9 does.
func (p Process) Kill(t testing.TB) {
	t.Helper()
	if !p.Alive() {
		t.Fatalf("process %s ended before it was killed", p)
	}
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", p, err)
	}
}
