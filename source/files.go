package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hasp/api"
	"hasp/world"
)

// FromFiles builds a World from manifests alone: files, directories (their
// .yaml, .yml and .json files, recursively) or "-" for in. Every object is
// decoded strictly and validated; all errors come at once, each with its file
// and line. An object without a namespace is in namespace, as kubectl -n would
// put it.
func FromFiles(in io.Reader, namespace string, paths ...string) (*world.World, []Problem, error) {
	objects, err := ReadManifests(in, paths...)
	errs := []error{err}
	var o Objects
	for _, obj := range objects {
		if err := invalid(obj); err != nil {
			errs = append(errs, err)
			continue
		}
		if m := obj.Meta(); m.GetNamespace() == "" && namespaced(obj) {
			m.SetNamespace(namespace)
		}
		o.add(obj.Value)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	w, problems := Build(&o, "")
	return w, problems, nil
}

// ReadManifests decodes the objects of files, directories or "-" for in, as
// FromFiles finds them, and validates none. The objects without an error are
// returned beside the errors of the others.
func ReadManifests(in io.Reader, paths ...string) ([]api.Object, error) {
	files, err := ReadFiles(in, paths...)
	if err != nil {
		return nil, err
	}
	var objects []api.Object
	var errs []error
	for _, f := range files {
		found, err := api.Decode(f.Name, f.Data)
		objects, errs = append(objects, found...), append(errs, err)
	}
	return objects, errors.Join(errs...)
}

// File is a file of manifests as it was read.
type File struct {
	Name string
	Data []byte
}

// ReadFiles reads what ReadManifests decodes.
func ReadFiles(in io.Reader, paths ...string) ([]File, error) {
	var out []File
	for _, p := range paths {
		names, err := manifests(p)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			data, err := readAll(in, name)
			if err != nil {
				return nil, err
			}
			out = append(out, File{name, data})
		}
	}
	return out, nil
}

// Validate the objects of manifests, each finding with its file and line.
func Validate(objects []api.Object) error {
	var errs []error
	for _, o := range objects {
		errs = append(errs, invalid(o))
	}
	return errors.Join(errs...)
}

// invalid is what api.Validate finds, each finding with its file and line.
func invalid(o api.Object) error {
	var errs []error
	for _, e := range api.Validate(o.Value) {
		errs = append(errs, fmt.Errorf("%s: %s %s: %w", o.Where(e.Field), o.GVK.Kind, o.Meta().GetName(), e))
	}
	return errors.Join(errs...)
}

func namespaced(o api.Object) bool {
	return !slices.Contains([]string{"Namespace", "MeshPolicy", "Node"}, o.GVK.Kind)
}

func manifests(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var out []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ext := strings.ToLower(filepath.Ext(p)); !d.IsDir() && (ext == ".yaml" || ext == ".yml" || ext == ".json") {
			out = append(out, p)
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%s: there is no .yaml, .yml or .json file in it", path)
	}
	return out, err
}

func readAll(in io.Reader, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(in, api.MaxBytes+1))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, api.MaxBytes+1))
}
