package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"hasp/capture"
)

// Command is a command that runs self with args in new network, mount, process,
// host name and IPC namespaces, as process 1 of its process namespace: when it
// ends, however it ends, the kernel ends all that it started. Without the
// privilege to make namespaces it also gets a user namespace in which it is
// root. files become its descriptors 3 and up. The caller sets the standard
// streams and starts it; inside, Setup comes first.
func Command(self string, args []string, files []*os.File, e Enter) (*exec.Cmd, error) {
	cmd := exec.Command(self, args...)
	if cmd.Err != nil {
		return nil, fmt.Errorf("sandbox: find %s: %w", self, cmd.Err)
	}
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     e.Detach,
	}
	if !privileged() {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	return cmd, nil
}

// privileged reports whether namespaces can be made without a user namespace:
// by root, unless a container took the capability away.
func privileged() bool {
	var data [2]unix.CapUserData
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return os.Geteuid() == 0 && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// Probe finds out whether this host allows a sandbox, by making a small one:
// it runs self with args as Command does, and there the caller must call
// ProbeInside. The error names the setting in the way and the command that
// changes it.
func Probe(self string, args ...string) error {
	cmd, err := Command(self, args, nil, Enter{})
	if err != nil {
		return err
	}
	var out limitedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return explainStart(err)
	}
	if err := cmd.Wait(); err != nil {
		if msg := trimLine(out.b); msg != "" {
			return errors.New(msg)
		}
		return fmt.Errorf("sandbox: probe: %w", err)
	}
	return nil
}

// explainStart says why namespaces could not be made.
func explainStart(err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EUSERS) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("sandbox: start in new namespaces: %w", err)
	}
	fix := forbidding(os.DirFS("/proc/sys"), userNamespaceSettings)
	if fix == "" {
		fix = "run as root, or in a container with --security-opt seccomp=unconfined"
	}
	return &Missing{What: "make user, network, mount and process namespaces", Err: bare(err), Fix: fix}
}

// ProbeInside makes, in the namespaces of Command, what a sandbox is made of.
func ProbeInside() error {
	if err := Setup(Inside{}); err != nil {
		return err
	}
	f, err := newFabric()
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.balance(probeBalance); err != nil {
		return err
	}
	n, err := f.attach(address(2))
	if err != nil {
		return err
	}
	defer n.close()
	if err := capture.Apply(int(n.ns), capture.Spec{OutboundPort: 1, InboundPort: 2, ExemptMark: Mark}); err != nil {
		return &Missing{What: "redirect connections to a sidecar", Err: err, Fix: "sudo modprobe -a nf_tables nft_chain_nat nft_redir"}
	}
	return probeWorkload(n)
}

// probeWorkload starts a workload that does nothing, in the nested user
// namespace that workloads get.
func probeWorkload(n *network) error {
	path, err := lookPath("true", DefaultPath)
	if err != nil {
		return nil // a host without one; the first workload will tell
	}
	p, err := launch{network: n, path: path, argv: []string{"true"}, uid: workloadUID, gid: workloadUID}.start()
	if errors.Is(err, unix.ENOSYS) {
		return &Missing{What: "show a workload its file system", Err: err, Fix: "boot Linux 5.12 or newer"}
	}
	if err != nil {
		return &Missing{What: "start a workload in a user namespace inside the sandbox", Err: err,
			Fix: forbidding(os.DirFS("/proc/sys"), userNamespaceSettings)}
	}
	if _, err := p.Wait(); err != nil {
		return fmt.Errorf("sandbox: probe: %w", err)
	}
	return nil
}

// limitedBuffer keeps the first 4 KiB of what is written to it.
type limitedBuffer struct{ b []byte }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), 4096-len(l.b))]...)
	return len(p), nil
}
