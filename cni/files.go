package cni

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// installProgram copies the plugin to the node unless it is there.
func (i Installer) installProgram(to string) (changed bool, err error) {
	want, err := digest(i.Program)
	if err != nil {
		return false, err
	}
	is, err := digest(to)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	if bytes.Equal(is, want) {
		return false, nil
	}
	f, err := os.Open(i.Program)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return true, replace(to, 0o755, f)
}

// digest is a program's hash, with its mode: a program that nobody may start is
// another.
func digest(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	return append(h.Sum(nil), byte(info.Mode().Perm()&0o111)), nil
}

// replace puts a new file in the place of another in one step. Runtimes pass
// over the name that it has before.
func replace(file string, mode os.FileMode, content io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".new*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // what a failure leaves; after success there is none
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// stamp tells a file that was looked at from another in its place, without
// reading it.
type stamp struct{ info os.FileInfo }

func (s *stamp) take(file string) { s.info, _ = os.Lstat(file) }

func (s *stamp) same(file string) bool {
	info, err := os.Lstat(file)
	return err == nil && s.info != nil && os.SameFile(s.info, info) &&
		s.info.Size() == info.Size() && s.info.Mode() == info.Mode() && s.info.ModTime().Equal(info.ModTime())
}
