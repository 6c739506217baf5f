package local

import (
	"context"
	"errors"
	"fmt"

	"hasp/apiserver"
)

// Backup writes a consistent copy of the running mesh's store to file.
func Backup(ctx context.Context, dir, file string) error {
	if _, err := Find(dir); err != nil {
		return err
	}
	return apiserver.Backup(ctx, apiDir(dir), file)
}

// Restore replaces the store of a stopped mesh.
func Restore(ctx context.Context, dir, file string) error {
	lock, err := lockDir(dir)
	if errors.Is(err, errLocked) {
		return fmt.Errorf("the mesh in %s is running; stop it first", dir)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	return apiserver.Restore(ctx, apiDir(dir), file)
}
