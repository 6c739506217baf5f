package sockmap

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Cgroup makes a cgroup of version 2 below the one of this process; remove takes
// it away once its processes have ended.
func Cgroup() (dir string, remove func() error, err error) {
	root, err := mounted()
	if err != nil {
		return "", nil, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", nil, err
	}
	for line := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			dir, err := os.MkdirTemp(filepath.Join(root, path), "hasp-sockmap-")
			if err != nil {
				return "", nil, fmt.Errorf("sockmap: make a cgroup: %w", err)
			}
			return dir, func() error { return os.Remove(dir) }, nil
		}
	}
	return "", nil, errors.New("sockmap: this process is in no cgroup of version 2")
}

// mounted is where cgroup v2 is.
func mounted() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for mount := range strings.Lines(string(mounts)) {
		if f := strings.Fields(mount); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("sockmap: cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup")
}

// Run runs cmd in a cgroup, and in a network namespace of its own that has only
// loopback.
func Run(cmd *exec.Cmd, cgroup string) error {
	dir, err := os.Open(cgroup)
	if err != nil {
		return err
	}
	defer dir.Close()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		started <- start(cmd)
	}()
	if err := <-started; err != nil {
		return err
	}
	return cmd.Wait()
}

// start starts cmd in a new network namespace, into which the thread goes too.
func start(cmd *exec.Cmd) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("sockmap: make a network namespace: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("sockmap: lo up: %w", err)
	}
	return cmd.Start()
}
