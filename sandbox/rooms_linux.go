package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
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
	if err := mountTmpfs("/run", "mode=755,size=64m"); err != nil {
		return err
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

// makePlace makes sure that there is something to mount on. Where the host's
// directories end, the deepest one is replaced by a copy of itself that has
// room for more.
func makePlace(path string, dir bool) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !filepath.IsAbs(path) {
		return errors.New("the path is not absolute")
	}
	parent := filepath.Dir(path)
	if err := makePlace(parent, true); err != nil {
		return err
	}
	make := func() error {
		if dir {
			return os.Mkdir(path, 0o755)
		}
		return os.WriteFile(path, nil, 0o644)
	}
	err := make()
	if !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EACCES) {
		return err
	}
	if err := extend(parent); err != nil {
		return err
	}
	return make()
}

// extend covers a directory by a small one in memory that shows the same
// entries, to which others can be added.
func extend(dir string) error {
	if dir == "/" {
		return extendRoot()
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	old := filepath.Join("/run", ".under")
	if err := os.MkdirAll(old, 0o755); err != nil {
		return err
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, old, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	defer unix.Unmount(old, unix.MNT_DETACH)
	if err := mountTmpfs(dir, "mode=755,size=1m"); err != nil {
		return err
	}
	return showEntries(old, dir, entries)
}

// extendRoot does the same for "/", which cannot be covered: the thread gets a
// new one, made of the entries of the old.
func extendRoot() error {
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	root := "/run/.root"
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := mountTmpfs(root, "mode=755,size=1m"); err != nil {
		return err
	}
	if err := showEntries("/", root, entries); err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	return unix.Chdir("/")
}

// showEntries makes the entries of one directory appear in another.
func showEntries(from, to string, entries []fs.DirEntry) error {
	for _, e := range entries {
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if e.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(src)
			if err != nil {
				return err
			}
			if err := os.Symlink(target, dst); err != nil {
				return err
			}
			continue
		}
		if e.IsDir() {
			if err := os.Mkdir(dst, 0o755); err != nil {
				return err
			}
		} else if err := os.WriteFile(dst, nil, 0o644); err != nil {
			return err
		}
		if err := unix.Mount(src, dst, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("show %s: %w", dst, err)
		}
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
