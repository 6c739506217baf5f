package sandbox

import (
	"fmt"
	"os"
	"syscall"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// workloadHostID is the user and group that workloads are outside their user
// namespace when the sandbox has root's powers. (Otherwise there is only one
// user to be.) Nobody owns files as this user.
const workloadHostID = 65532

// start runs the process on a thread that was first moved into the pod.
func (l launch) start() (*os.Process, error) {
	var p *os.Process
	err := onThread(func() (err error) {
		if err := l.enter(); err != nil {
			return err
		}
		p, err = os.StartProcess(l.path, l.argv, &os.ProcAttr{Dir: l.dir, Env: l.env, Files: l.files, Sys: l.attributes()})
		return err
	})
	return p, err
}

// enter moves the current thread into the pod.
func (l launch) enter() error {
	if err := netns.Set(l.network.ns); err != nil {
		return fmt.Errorf("enter the pod's network: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("make mount and host name namespaces: %w", err)
	}
	if l.hostname != "" {
		if err := unix.Sethostname([]byte(l.hostname)); err != nil {
			return fmt.Errorf("set host name: %w", err)
		}
	}
	if err := l.rooms.furnish(); err != nil {
		return err
	}
	// No program, whatever its mode bits, gains what its starter lacks.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	if l.proxy {
		return dropCapabilities(unix.CAP_NET_ADMIN)
	}
	return nil
}

// dropCapabilities leaves a program that the current thread starts as root with
// no capability but one. Setting a mark needs CAP_NET_ADMIN, or CAP_NET_RAW
// since Linux 5.17.
func dropCapabilities(but uintptr) error {
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if c == but {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}

// attributes put the process into namespaces of its own, as their process 1:
// when it ends, what it started ends too. A workload is an unprivileged user of
// a nested user namespace, so that it can neither mark its packets nor change
// the ruleset, whatever it becomes there.
func (l launch) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Setsid:     true,
	}
	if l.proxy {
		return a
	}
	host := workloadHost()
	a.Cloneflags |= unix.CLONE_NEWUSER
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: l.uid, HostID: host, Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: l.gid, HostID: host, Size: 1}}
	a.GidMappingsEnableSetgroups = host != 0
	a.Credential = &syscall.Credential{Uid: uint32(l.uid), Gid: uint32(l.gid), NoSetGroups: host == 0}
	return a
}

// workloadHost is what workloads are, as this process sees them.
func workloadHost() int {
	if inUserNamespace() {
		return 0
	}
	return workloadHostID
}

// inUserNamespace reports whether this process has but one user to be.
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	var inside, outside, size uint64
	if _, err := fmt.Sscan(string(b), &inside, &outside, &size); err != nil {
		return false
	}
	return size <= workloadHostID
}
