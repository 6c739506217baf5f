package cni

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Installer puts the plugin on a node and takes it away again. Files are
// replaced in one step: the runtime reads the old one or the new one.
type Installer struct {
	// Program is the plugin, a file.
	Program string
	// BinDir and ConfDir are the node's directories of CNI programs and of
	// network configurations.
	BinDir, ConfDir string
	// Chained adds the plugin to the list that the runtime uses, the first of
	// ConfDir by name. Otherwise it gets a network of its own in hasp-cni.conf,
	// which Multus starts for pods that name it.
	Chained  bool
	Settings Settings
}

// maxConf is more than any network configuration has.
const maxConf = 1 << 20

// Install puts the plugin's program and configuration in their places and
// reports whether something was not as it should be. It may be asked at any
// time.
func (i Installer) Install() (changed bool, err error) { return i.install(new(stamp)) }

// install is Install that does not read a program again which is the one it saw
// last.
func (i Installer) install(seen *stamp) (changed bool, err error) {
	program := false
	if at := filepath.Join(i.BinDir, Name); !seen.same(at) {
		if program, err = i.installProgram(at); err != nil {
			return false, fmt.Errorf("cni: install: %w", err)
		}
		seen.take(at)
	}
	conf, err := i.installConf()
	if err != nil {
		return program, fmt.Errorf("cni: install: %w", err)
	}
	return program || conf, nil
}

// Remove takes the plugin out of every network configuration, and then its
// program, which nothing starts any more.
func (i Installer) Remove() error {
	names, err := i.confs()
	if err != nil {
		return fmt.Errorf("cni: remove: %w", err)
	}
	var errs []error
	for _, name := range names {
		if filepath.Ext(name) == ".conflist" {
			errs = append(errs, i.unchain(filepath.Join(i.ConfDir, name)))
		}
	}
	for _, file := range []string{i.own(), filepath.Join(i.BinDir, Name)} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cni: remove: %w", err)
	}
	return nil
}

// unchain leaves a list. One that cannot be read does not have the plugin.
func (i Installer) unchain(file string) error {
	b, err := readConf(file)
	if err != nil {
		return err
	}
	without, err := leave(b)
	if err != nil || bytes.Equal(b, without) {
		return nil
	}
	return replace(file, 0o644, bytes.NewReader(without))
}

func (i Installer) own() string { return filepath.Join(i.ConfDir, Name+".conf") }

func (i Installer) installConf() (changed bool, err error) {
	file, make := i.own(), func([]byte) ([]byte, error) { return standalone(i.Settings) }
	if i.Chained {
		if file, err = i.first(); err != nil {
			return false, err
		}
		make = func(b []byte) ([]byte, error) { return join(b, i.Settings) }
	}
	is, err := readConf(file)
	if err != nil && (i.Chained || !errors.Is(err, os.ErrNotExist)) {
		return false, err
	}
	want, err := make(is)
	switch {
	case err != nil:
		return false, fmt.Errorf("%s: %w", file, err)
	case bytes.Equal(is, want):
		return false, nil
	}
	return true, replace(file, 0o644, bytes.NewReader(want))
}

// first is the configuration that container runtimes use: the first by name.
func (i Installer) first() (string, error) {
	names, err := i.confs()
	if err != nil {
		return "", err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == Name+".conf" })
	if len(names) == 0 {
		return "", fmt.Errorf("%s has no network configuration yet", i.ConfDir)
	}
	if filepath.Ext(names[0]) != ".conflist" {
		return "", fmt.Errorf("the node's network is %s, which is one plugin; make it a list (.conflist) that others can join", filepath.Join(i.ConfDir, names[0]))
	}
	return filepath.Join(i.ConfDir, names[0]), nil
}

// confs are the names of what runtimes take for network configurations, sorted.
func (i Installer) confs() ([]string, error) {
	entries, err := os.ReadDir(i.ConfDir) // sorted
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".conf" || ext == ".conflist" || ext == ".json") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func readConf(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConf+1))
	if err == nil && len(b) > maxConf {
		err = fmt.Errorf("%s: longer than %d bytes", file, maxConf)
	}
	return b, err
}
