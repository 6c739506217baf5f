package main

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// debianPackage is an installed package that an image has files of.
type debianPackage struct{ name, version, arch string }

// addDebian adds programs of this machine with the libraries that they load,
// their loader, and the licences of all that.
func addDebian(ctx context.Context, t tree, programs []string) ([]debianPackage, error) {
	var files []string
	for _, p := range programs {
		libs, err := libraries(ctx, p)
		if err != nil {
			return nil, err
		}
		files = append(append(files, p), libs...)
	}
	if len(files) == 0 {
		return nil, nil
	}
	slices.Sort(files)
	files = slices.Compact(files)
	for _, f := range files {
		t.copy(f, f, 0o755)
	}
	packages, err := owners(ctx, files)
	if err != nil {
		return nil, err
	}
	for _, p := range packages {
		licence := filepath.Join("/usr/share/doc", p.name, "copyright")
		if _, err := os.Stat(licence); err == nil {
			t.copy(licence, licence, 0o644)
		}
	}
	return packages, nil
}

// libraries are the loader and the shared libraries of a program, as the loader
// itself finds them.
func libraries(ctx context.Context, program string) ([]string, error) {
	f, err := elf.Open(program)
	if err != nil {
		return nil, fmt.Errorf("%w: install it", err)
	}
	defer f.Close()
	ld := loader(f)
	if ld == "" {
		return nil, nil
	}
	out, err := exec.CommandContext(ctx, ld, "--list", program).Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list %s: %w", ld, program, err)
	}
	libs, err := parseList(string(out))
	return append(libs, ld), err
}

// parseList reads the loader's list: "name => path (address)" for a library,
// "path (address)" for itself, and a name without a path for the kernel's own.
func parseList(list string) ([]string, error) {
	var out []string
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		name, at, found := strings.Cut(line, " => ")
		if !found {
			continue
		}
		file, _, _ := strings.Cut(at, " (")
		if !strings.HasPrefix(file, "/") {
			return nil, fmt.Errorf("library %s: %s", name, at)
		}
		// The loader names itself a second time where a library asks for it.
		if !strings.HasPrefix(name, "/") {
			out = append(out, file)
		}
	}
	return out, nil
}

// loader is the program that a dynamic program asks the kernel to start first.
func loader(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
			if err != nil {
				return ""
			}
			return string(bytes.TrimRight(b, "\x00"))
		}
	}
	return ""
}

// owners are the packages that files came with. Debian has two names for a file
// of /lib, with and without /usr, and remembers either.
func owners(ctx context.Context, files []string) ([]debianPackage, error) {
	ask := []string{"--search"}
	for _, f := range files {
		ask = append(ask, f)
		if rest, ok := strings.CutPrefix(f, "/usr"); ok {
			ask = append(ask, rest)
		} else {
			ask = append(ask, "/usr"+f)
		}
	}
	// It fails when one of the names is not known, which one of two never is.
	out, err := exec.CommandContext(ctx, "dpkg-query", ask...).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("%w: this image is made from Debian's packages", err)
	}
	show := []string{"--show", "--showformat", "${Package} ${Version} ${Architecture}\n"}
	found := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		pkg, file, _ := strings.Cut(strings.TrimSpace(line), ": ")
		show = append(show, pkg)
		found[file], found[strings.TrimPrefix(file, "/usr")], found["/usr"+file] = true, true, true
	}
	for _, f := range files {
		if !found[f] {
			return nil, fmt.Errorf("%s belongs to no Debian package", f)
		}
	}
	out, err = exec.CommandContext(ctx, "dpkg-query", show...).Output()
	if err != nil {
		return nil, fmt.Errorf("dpkg-query: %w", err)
	}
	var packages []debianPackage
	for line := range strings.Lines(string(out)) {
		if w := strings.Fields(line); len(w) == 3 {
			packages = append(packages, debianPackage{w[0], w[1], w[2]})
		}
	}
	slices.SortFunc(packages, func(a, b debianPackage) int { return cmp.Compare(a.name, b.name) })
	return slices.Compact(packages), nil
}
