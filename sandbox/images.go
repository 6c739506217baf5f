package sandbox

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Image says which local program stands for a container image.
type Image struct {
	// Program is the start of the argument vector, what the image's ENTRYPOINT
	// would be; the container's command replaces it, its args follow it. A
	// program without a slash is looked up in Config.Path. Empty: the container
	// must have a command.
	Program []string `json:"program,omitempty"`
	// Args follow Program when the container has none of its own, as the
	// image's CMD would.
	Args []string `json:"args,omitempty"`
	// Env is set unless the container sets it.
	Env map[string]string `json:"env,omitempty"`
	// WorkingDir of the program; by default the pod's own scratch directory.
	WorkingDir string `json:"workingDir,omitempty"`
	// Gateway makes it the mesh's own proxy in the role of a gateway.
	Gateway bool `json:"gateway,omitempty"`
}

// Images maps image names, without tag, digest and docker.io/, to programs.
type Images map[string]Image

// UnknownImageError is for an image that no local program stands for.
type UnknownImageError struct {
	Image string
	Known []string
}

func (e *UnknownImageError) Error() string {
	return fmt.Sprintf("no local program stands for image %q; known images: %s", e.Image, strings.Join(e.Known, ", "))
}

// Find the program for an image as a pod names it.
func (im Images) Find(image string) (Image, error) {
	if found, ok := im[imageName(image)]; ok {
		return found, nil
	}
	return Image{}, &UnknownImageError{Image: image, Known: slices.Sorted(maps.Keys(im))}
}

// With is im with the entries of more, which win.
func (im Images) With(more Images) Images {
	out := maps.Clone(im)
	if out == nil {
		out = Images{}
	}
	maps.Copy(out, more)
	return out
}

// imageName is what an image is called in the table: without digest, tag and
// Docker Hub's host.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	// A colon before the last slash belongs to a registry's port.
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	for _, hub := range []string{"docker.io/", "index.docker.io/"} {
		if rest, ok := strings.CutPrefix(image, hub); ok {
			return strings.TrimPrefix(rest, "library/")
		}
	}
	return image
}

// maxImagesFile is more than anybody writes by hand.
const maxImagesFile = 1 << 20

// LoadImages reads a table from a YAML file: image names, each with the fields
// of Image.
//
//	example.com/shop/api:
//	  program: [/srv/shop/api, --listen, ":8080"]
func LoadImages(file string) (Images, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("sandbox: image table: %w", err)
	}
	if info.Size() > maxImagesFile {
		return nil, fmt.Errorf("sandbox: image table %s: larger than %d bytes", file, maxImagesFile)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("sandbox: image table: %w", err)
	}
	im, err := parseImages(b)
	if err != nil {
		return nil, fmt.Errorf("sandbox: image table %s: %w", file, err)
	}
	return im, nil
}

func parseImages(b []byte) (Images, error) {
	var read Images
	if err := yaml.UnmarshalStrict(b, &read); err != nil {
		return nil, err
	}
	out := make(Images, len(read))
	for name, image := range read {
		switch {
		case name == "":
			return nil, fmt.Errorf("an image has no name")
		case image.Gateway && len(image.Program) > 0:
			return nil, fmt.Errorf("%s: a gateway is the mesh's own proxy and has no program", name)
		case len(image.Program) > 0 && image.Program[0] == "":
			return nil, fmt.Errorf("%s: program: the first word is empty", name)
		}
		key := imageName(name)
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("%s: named twice", key)
		}
		out[key] = image
	}
	return out, nil
}

// DefaultPath is where programs are looked for.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookPath finds a program as a shell would, but in the given path only.
func lookPath(program, path string) (string, error) {
	if strings.Contains(program, "/") {
		return program, executable(program)
	}
	for _, dir := range filepath.SplitList(path) {
		if full := filepath.Join(dir, program); executable(full) == nil {
			return full, nil
		}
	}
	return "", fmt.Errorf("program %q is in none of %s", program, path)
}

// openFirst puts the directories of a path that a workload can enter before those
// that it cannot: a program in the latter (a version manager below /root) may
// need more than itself.
func openFirst(path string, user int) string {
	var open, shut []string
	for _, dir := range filepath.SplitList(path) {
		if closedTo(filepath.Join(dir, "program"), user) {
			shut = append(shut, dir)
		} else {
			open = append(open, dir)
		}
	}
	return strings.Join(append(open, shut...), string(filepath.ListSeparator))
}

func executable(file string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return err
	case info.IsDir() || info.Mode()&0o111 == 0:
		return fmt.Errorf("%s: %w", file, fs.ErrPermission)
	}
	return nil
}
