package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// image is a finished image with its name.
type image struct {
	v1.Image
	ref    name.Tag
	digest v1.Hash
	sbom   []byte // SPDX 2.3 JSON; the image has it too
}

// rootsFile is where Go and OpenSSL look, here as on Debian.
const rootsFile = "/etc/ssl/certs/ca-certificates.crt"

// build makes the image of a recipe.
func build(ctx context.Context, r recipe, c config) (*image, error) {
	ref, err := r.ref(c)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(c.bin, r.program)
	arch, err := static(program)
	if err != nil {
		return nil, err
	}
	files := base(r)
	entrypoint := path.Join("/usr/local/bin", path.Base(r.program))
	files.copy(entrypoint, program, 0o755)
	packages, err := addDebian(ctx, files, r.debian)
	if err != nil {
		return nil, err
	}
	if r.roots {
		if _, err := os.Stat(rootsFile); err != nil {
			return nil, fmt.Errorf("%w: install ca-certificates", err)
		}
		files.copy(rootsFile, rootsFile, 0o644)
	}
	sbom, err := describe(r, c, files, packages)
	if err != nil {
		return nil, fmt.Errorf("sbom: %w", err)
	}
	files.add(r.sbom(), entry{mode: 0o644, text: sbom})
	layer, err := files.layer()
	if err != nil {
		return nil, err
	}
	img, err := assemble(layer, v1.ConfigFile{
		OS: "linux", Architecture: arch, Created: v1.Time{Time: time.Unix(0, 0).UTC()},
		Config: v1.Config{
			Entrypoint: append([]string{entrypoint}, r.args...),
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			User:       fmt.Sprintf("%d:%d", r.user.uid, r.user.gid),
			WorkingDir: "/",
			Labels:     labels(r, c),
		},
	})
	if err != nil {
		return nil, err
	}
	digest, err := img.Digest()
	return &image{Image: img, ref: ref, digest: digest, sbom: sbom}, err
}

// assemble makes an image of one layer.
func assemble(layer v1.Layer, config v1.ConfigFile) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(img, &config)
	if err != nil {
		return nil, err
	}
	return mutate.Append(img, mutate.Addendum{
		Layer: layer, MediaType: types.OCILayer,
		History: v1.History{Created: config.Created, CreatedBy: "hasp images"},
	})
}

// labels are those of the OCI image specification that are known.
func labels(r recipe, c config) map[string]string {
	const prefix = "org.opencontainers.image."
	out := map[string]string{
		prefix + "title":       r.title,
		prefix + "description": r.description,
		prefix + "version":     c.tag,
	}
	for key, value := range map[string]string{"revision": c.revision, "source": c.source} {
		if value != "" {
			out[prefix+key] = value
		}
	}
	return out
}

// base is what every image has: names for its users, the order of host look-ups,
// and a place for temporary files.
func base(r recipe) tree {
	t := tree{}
	u := r.user
	passwd, group := "root:x:0:0:root:/:/sbin/nologin\n", "root:x:0:\n"
	if u.uid != 0 {
		passwd += fmt.Sprintf("%s:x:%d:%d:%s:/:/sbin/nologin\n", u.name, u.uid, u.gid, u.name)
		group += fmt.Sprintf("%s:x:%d:\n", u.name, u.gid)
	}
	t.text("/etc/passwd", passwd)
	t.text("/etc/group", group)
	t.text("/etc/nsswitch.conf", "hosts: files dns\n")
	t.add("/tmp", entry{mode: 0o1777, dir: true})
	if r.data {
		t.add("/data", entry{mode: 0o775, dir: true, uid: u.uid})
	}
	return t
}

// layer is the tree, compressed once.
func (t tree) layer() (v1.Layer, error) {
	b, err := t.tar()
	if err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

// static checks that a program needs nothing but the kernel, and says for which
// machine it is, in Go's and OCI's words.
func static(program string) (arch string, err error) {
	f, err := elf.Open(program)
	if err != nil {
		return "", fmt.Errorf("%w (make images builds it)", err)
	}
	defer f.Close()
	if loader(f) != "" {
		return "", fmt.Errorf("%s needs shared libraries: build it with CGO_ENABLED=0", program)
	}
	return architecture(f)
}

func architecture(f *elf.File) (string, error) {
	switch f.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	}
	return "", fmt.Errorf("programs for %s are not known here", f.Machine)
}
