package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	cgroupMount = "/sys/fs/cgroup"
	// cgroupPrefix is followed by the number of the process that made it.
	cgroupPrefix = "hasp-kube-"
)

// unified reports whether the machine has cgroup v2 alone.
func unified() bool {
	_, err := os.Stat(filepath.Join(cgroupMount, "cgroup.controllers"))
	return err == nil
}

// hierarchies is the one tree of cgroup v2, or each of v1.
func hierarchies() []string {
	if unified() {
		return []string{cgroupMount}
	}
	procs, _ := filepath.Glob(filepath.Join(cgroupMount, "*", "cgroup.procs"))
	var out []string
	for _, p := range procs {
		out = append(out, filepath.Dir(p))
	}
	return out
}

// makeCgroups for a node's pods: the kubelet wants its root to be there.
func makeCgroups(name string) error {
	for _, h := range hierarchies() {
		dir := filepath.Join(h, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make a cgroup: %w", err)
		}
		var err error
		switch {
		case unified():
			err = errors.Join(delegate(h), delegate(dir))
		case filepath.Base(h) == "cpuset":
			// A new one is empty, and so cannot run anything.
			err = errors.Join(inherit(h, dir, "cpuset.cpus"), inherit(h, dir, "cpuset.mems"),
				os.WriteFile(filepath.Join(dir, "cgroup.clone_children"), []byte("1"), 0o644))
		}
		if err != nil {
			return fmt.Errorf("set the cgroup %s up: %w", dir, err)
		}
	}
	return nil
}

// delegate the controllers that a kubelet needs to the groups below dir.
func delegate(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+cpuset +cpu +io +memory +pids"), 0o644)
}

func inherit(from, to, file string) error {
	b, err := os.ReadFile(filepath.Join(from, file))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, file), b, 0o644)
}

// removeCgroups of a node whose processes have ended. The kernel may take a
// moment to notice.
func removeCgroups(name string) error {
	if name == "" {
		return nil
	}
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := tryRemoveCgroups(name)
		if err == nil {
			return nil
		}
		select {
		case <-deadline:
			return err
		case <-tick.C:
		}
	}
}

func tryRemoveCgroups(name string) error {
	var errs []error
	for _, h := range hierarchies() {
		var dirs []string
		filepath.WalkDir(filepath.Join(h, name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) { // the inner ones first
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("remove a cgroup: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// sweepCgroups of programs that were killed before they could.
func sweepCgroups() {
	for _, h := range hierarchies() {
		left, _ := filepath.Glob(filepath.Join(h, cgroupPrefix+"*"))
		for _, dir := range left {
			name := filepath.Base(dir)
			maker, _, _ := strings.Cut(strings.TrimPrefix(name, cgroupPrefix), "-")
			pid, err := strconv.Atoi(maker)
			if err != nil {
				continue // not ours
			}
			if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); errors.Is(err, fs.ErrNotExist) {
				tryRemoveCgroups(name)
			}
		}
	}
}
