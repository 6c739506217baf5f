package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// furnish makes the view real in the current thread's mount namespace, which
// must be its own. Order matters: what is to be seen is opened before what
// hides it is mounted.
func (r rooms) furnish() error {
	sources, err := r.open()
	defer closeAll(sources)
	if err != nil {
		return err
	}
	if err := readOnly("/", true); err != nil {
		return err
	}
	if err := readOnly("/proc", false); err != nil {
		return err
	}
	names := runDirs()
	if err := mountTmpfs("/run", "mode=755,size=64m"); err != nil {
		return err
	}
	// The pod's own, for any user it may be.
	if err := makeRunDirs(names, 0o777|os.ModeSticky); err != nil {
		return fmt.Errorf("furnish /run: %w", err)
	}
	if _, err := os.Stat("/dev/shm"); err == nil {
		if err := mountTmpfs("/dev/shm", "mode=1777,size=256m"); err != nil {
			return err
		}
	}
	if err := writable("/tmp"); err != nil {
		return err
	}
	if err := r.hideAll(); err != nil {
		return err
	}
	for _, s := range sources {
		if err := s.mount(); err != nil {
			return err
		}
	}
	return r.writeFiles()
}

// sourceFD is a bind whose source is held open.
type sourceFD struct {
	bind
	fd  int
	dir bool
}

func closeAll(s []sourceFD) {
	for _, x := range s {
		unix.Close(x.fd)
	}
}

func (r rooms) open() ([]sourceFD, error) {
	var out []sourceFD
	for _, b := range r.binds {
		fd, err := unix.OpenTree(unix.AT_FDCWD, b.from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return out, fmt.Errorf("show %s at %s: %w", b.from, b.to, err)
		}
		info, err := os.Stat(b.from)
		if err != nil {
			unix.Close(fd)
			return out, fmt.Errorf("show %s at %s: %w", b.from, b.to, err)
		}
		out = append(out, sourceFD{b, fd, info.IsDir()})
	}
	return out, nil
}

func (s sourceFD) mount() error {
	if err := makePlace(s.to, s.dir); err != nil {
		return fmt.Errorf("mount %s: %w", s.to, err)
	}
	if err := unix.MoveMount(s.fd, "", unix.AT_FDCWD, s.to, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS); err != nil {
		return fmt.Errorf("mount %s: %w", s.to, err)
	}
	if s.readOnly {
		return readOnly(s.to, true)
	}
	return nil
}

// writeFiles gives the pod its own files in /etc, kept in its /run.
func (r rooms) writeFiles() error {
	if len(r.files) == 0 {
		return nil
	}
	if err := os.MkdirAll("/run/etc", 0o755); err != nil {
		return err
	}
	for path, content := range r.files {
		own := filepath.Join("/run/etc", filepath.Base(path))
		if err := os.WriteFile(own, []byte(content), 0o644); err != nil {
			return err
		}
		// Often a link into /run, which is empty here.
		target := path
		if link, err := os.Readlink(path); err == nil {
			if !filepath.IsAbs(link) {
				link = filepath.Join(filepath.Dir(path), link)
			}
			target = link
		}
		if err := makePlace(target, false); err != nil {
			return fmt.Errorf("give the pod its own %s: %w", path, err)
		}
		if err := unix.Mount(own, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("give the pod its own %s: %w", path, err)
		}
	}
	return nil
}

// hideAll covers the directories to hide.
func (r rooms) hideAll() error {
	for _, dir := range r.hide {
		if _, err := os.Stat(dir); err != nil {
			continue // nothing to hide
		}
		if err := mountTmpfs(dir, "mode=555,size=4k"); err != nil {
			return err
		}
	}
	return nil
}

func mountTmpfs(dir, options string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount an empty %s: %w", dir, err)
	}
	return nil
}

// readOnly changes a mount and all below it.
func readOnly(dir string, on bool) error {
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if !on {
		attr = &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	}
	err := unix.MountSetattr(unix.AT_FDCWD, dir, unix.AT_RECURSIVE, attr)
	if err != nil && strings.HasPrefix(dir, "/proc") && errors.Is(err, unix.EPERM) {
		return nil // parts of a container's /proc may not be made writable
	}
	if err != nil {
		return fmt.Errorf("make %s read only (%t): %w", dir, on, err)
	}
	return nil
}

// writable makes a directory of a read-only file system writable again, unless
// the host has it read only.
func writable(dir string) error {
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep %s writable: %w", dir, err)
	}
	err := unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
	if err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("keep %s writable: %w", dir, err)
	}
	return nil
}
