package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

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
