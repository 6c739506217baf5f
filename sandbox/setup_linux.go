package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Setup furnishes the namespaces that Command made, and must be called there
// before anything else: mounts become private, /proc shows the new process
// namespace, /run has but empty directories (the host's name-service daemons and
// sockets live there), loopback is up, and the files handed to Command are closed on exec, so
// that no workload inherits them. The umask is a container's: what is made for a
// workload, its resolv.conf for one, is another user's to read.
func Setup(in Inside) error {
	unix.Umask(0o022)
	for fd := 3; fd < 3+in.Files; fd++ {
		unix.CloseOnExec(fd)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		// The first thing that needs a capability: AppArmor gives out user
		// namespaces without any.
		return &Missing{What: "make mounts private", Err: err, Fix: forbidding(os.DirFS("/proc/sys"), userNamespaceSettings)}
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("sandbox: mount /proc: %w (in a container: it must run with its /proc unmasked, docker run --security-opt systempaths=unconfined)", err)
	}
	if err := emptyRun(in.Keep); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("sandbox: bring loopback up: %w", err)
	}
	return nil
}

// emptyRun mounts an empty /run and puts the directories to keep back into it.
func emptyRun(keep []string) error {
	names := runDirs()
	held, err := hold(keep)
	defer held.close()
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=16m"); err != nil {
		return fmt.Errorf("sandbox: mount an empty /run: %w", err)
	}
	if err := makeRunDirs(names, 0o755); err != nil {
		return fmt.Errorf("sandbox: furnish /run: %w", err)
	}
	for _, h := range held {
		if err := os.MkdirAll(h.path, 0o755); err != nil {
			return fmt.Errorf("sandbox: keep %s: %w", h.path, err)
		}
		if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", h.fd), h.path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("sandbox: keep %s: %w", h.path, err)
		}
	}
	return nil
}

// maxRunDirs is more than any host has.
const maxRunDirs = 256

// runDirs are the names of the directories in /run. Servers expect one of their
// own there, such as /run/postgresql, which their package made.
func runDirs() []string {
	entries, err := os.ReadDir("/run")
	if err != nil {
		return nil // a host without /run
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && len(names) < maxRunDirs && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// makeRunDirs makes empty directories in /run.
func makeRunDirs(names []string, mode os.FileMode) error {
	for _, name := range names {
		dir := filepath.Join("/run", name)
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
		if err := os.Chmod(dir, mode); err != nil { // whatever the umask
			return err
		}
	}
	return nil
}

// held are directories under /run, held open while /run is covered.
type held []struct {
	path string
	fd   int
}

func (h held) close() {
	for _, d := range h {
		unix.Close(d.fd)
	}
}

func hold(dirs []string) (held, error) {
	var h held
	for _, d := range dirs {
		real, err := filepath.EvalSymlinks(d)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return h, fmt.Errorf("sandbox: keep %s: %w", d, err)
		}
		if real, err = filepath.Abs(real); err != nil {
			return h, fmt.Errorf("sandbox: keep %s: %w", d, err)
		}
		if !strings.HasPrefix(real, "/run/") {
			continue
		}
		fd, err := unix.Open(real, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return h, fmt.Errorf("sandbox: keep %s: %w", real, err)
		}
		h = append(h, struct {
			path string
			fd   int
		}{real, fd})
	}
	return h, nil
}
