package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// pushArchives of a directory, each image under its own references.
func pushArchives(listen, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	if len(files) == 0 {
		return fmt.Errorf("%s has no image archive (*.tar): build them first", dir)
	}
	for _, file := range files {
		manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(file) })
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		for _, entry := range manifest {
			if err := pushEntry(listen, file, entry); err != nil {
				return err
			}
		}
	}
	return nil
}

func pushEntry(listen, file string, entry tarball.Descriptor) error {
	if len(entry.RepoTags) == 0 {
		return fmt.Errorf("%s has an image without a reference", file)
	}
	for _, ref := range entry.RepoTags {
		tag, err := name.NewTag(ref)
		if err != nil {
			return fmt.Errorf("%s: image reference %q: %w", file, ref, err)
		}
		img, err := tarball.ImageFromPath(file, &tag)
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		if err := push(listen, ref, img); err != nil {
			return err
		}
	}
	return nil
}

// programImage is an image of one static program, which it runs.
func programImage(path string) (v1.Image, error) {
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the program of an image: %w", err)
	}
	inside := "/" + filepath.Base(path)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: inside[1:], Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, fmt.Errorf("archive %s: %w", path, err)
	}
	if _, err := w.Write(program); err != nil {
		return nil, fmt.Errorf("archive %s: %w", path, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("archive %s: %w", path, err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return nil, fmt.Errorf("make the layer of %s: %w", path, err)
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, fmt.Errorf("make the image of %s: %w", path, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("describe the image of %s: %w", path, err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = runtime.GOOS, runtime.GOARCH
	config.Config.Entrypoint = []string{inside}
	return mutate.ConfigFile(img, config)
}
