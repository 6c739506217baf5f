package main

import (
	"context"
	"fmt"
	"os"
	"path"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// save writes file.tar, a docker-archive with the image under its full name, and
// file.spdx.json. A reader sees the old file or the new one.
func (i *image) save(file string) error {
	tmp := file + ".tar.new"
	defer os.Remove(tmp) // what a failure leaves; after success there is none
	if err := tarball.WriteToFile(tmp, i.ref, i.Image); err != nil {
		return err
	}
	if err := os.Rename(tmp, file+".tar"); err != nil {
		return err
	}
	return os.WriteFile(file+".spdx.json", i.sbom, 0o644)
}

// push sends the image to a registry, below a path if there is one, under its
// own name without its own registry: what is called localhost:5000/hasp/hasp is
// REGISTRY/hasp/hasp, and docker.io/appropriate/curl is
// REGISTRY/appropriate/curl, where a mirror of docker.io has it. Who is allowed
// to is what "docker login" left behind. Registries of loopback speak HTTP.
func (i *image) push(ctx context.Context, registry string) (name.Tag, error) {
	to, err := name.NewTag(path.Join(registry, i.ref.RepositoryStr())+":"+i.ref.TagStr(), name.StrictValidation)
	if err != nil {
		return name.Tag{}, fmt.Errorf("%w (see --push)", err)
	}
	return to, remote.Write(to, i.Image, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
}
