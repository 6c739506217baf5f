package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// furnish finds the directories of the host that the container sees: its
// scratch directory and its volumes. A volume can be mounted anywhere, also
// where the host has nothing.
func (p *pod) furnish(ctx context.Context, obj *corev1.Pod, c *container, l *launch) error {
	owner := workloadHost()
	scratch := filepath.Join(p.dir(), "scratch", c.spec.Name)
	if err := ownDir(scratch, owner); err != nil {
		return err
	}
	l.rooms.binds = append(l.rooms.binds, bind{from: scratch, to: podDir})
	l.path = l.rooms.program(l.path, owner)
	volumes := map[string]corev1.Volume{}
	for _, v := range obj.Spec.Volumes {
		volumes[v.Name] = v
	}
	for _, m := range c.spec.VolumeMounts {
		v, ok := volumes[m.Name]
		if !ok {
			return fmt.Errorf("volume mount %s: the pod has no volume of that name", m.Name)
		}
		from, readOnly, err := p.volume(ctx, obj, v, owner)
		if err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
		if m.SubPath != "" {
			if !filepath.IsLocal(m.SubPath) {
				return fmt.Errorf("volume mount %s: subPath %q leads out of the volume", m.Name, m.SubPath)
			}
			from = filepath.Join(from, m.SubPath)
			if _, err := os.Stat(from); err != nil {
				if err := ownDir(from, owner); err != nil {
					return err
				}
			}
		}
		if !filepath.IsAbs(m.MountPath) || filepath.Clean(m.MountPath) == "/" {
			return fmt.Errorf("volume mount %s: mountPath %q is not the absolute path of a directory below /", m.Name, m.MountPath)
		}
		l.rooms.binds = append(l.rooms.binds, bind{from: from, to: filepath.Clean(m.MountPath), readOnly: readOnly || m.ReadOnly})
	}
	return nil
}

// volume is the directory of the host that a volume is.
func (p *pod) volume(ctx context.Context, obj *corev1.Pod, v corev1.Volume, owner int) (dir string, readOnly bool, err error) {
	dir = filepath.Join(p.dir(), "volumes", v.Name)
	refs := references{p: p, ctx: ctx, namespace: obj.Namespace}
	switch {
	case v.EmptyDir != nil:
		return dir, false, ownDir(dir, owner)
	case v.PersistentVolumeClaim != nil:
		// A claim is a directory that outlives its pods.
		claim := v.PersistentVolumeClaim.ClaimName
		if !filepath.IsLocal(claim) || filepath.Base(claim) != claim {
			return "", false, fmt.Errorf("claim %q is not a name", claim)
		}
		dir = filepath.Join(p.s.cfg.StateDir, "claims", obj.Namespace, claim)
		return dir, v.PersistentVolumeClaim.ReadOnly, ownDir(dir, owner)
	case v.HostPath != nil:
		if _, err := os.Stat(v.HostPath.Path); err != nil {
			return "", false, err
		}
		return v.HostPath.Path, false, nil
	case v.ConfigMap != nil:
		data, err := refs.configMap(v.ConfigMap.Name, v.ConfigMap.Optional)
		if err != nil {
			return "", false, err
		}
		return dir, true, writeVolume(dir, owner, data, v.ConfigMap.Items)
	case v.Secret != nil:
		data, err := refs.secret(v.Secret.SecretName, v.Secret.Optional)
		if err != nil {
			return "", false, err
		}
		return dir, true, writeVolume(dir, owner, data, v.Secret.Items)
	}
	return "", false, errors.New("its kind is not supported here: only emptyDir, persistentVolumeClaim, hostPath, configMap and secret are")
}

// writeVolume writes keys as files, the items or all.
func writeVolume(dir string, owner int, data map[string]string, items []corev1.KeyToPath) error {
	if err := ownDir(dir, owner); err != nil {
		return err
	}
	if len(items) == 0 {
		for key := range data {
			items = append(items, corev1.KeyToPath{Key: key, Path: key})
		}
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			return fmt.Errorf("there is no key %q", item.Key)
		}
		if !filepath.IsLocal(item.Path) {
			return fmt.Errorf("path %q leads out of the volume", item.Path)
		}
		file := filepath.Join(dir, item.Path)
		if err := ownDir(filepath.Dir(file), owner); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(value), 0o400); err != nil && !errors.Is(err, os.ErrPermission) {
			return err
		} else if err != nil { // it is there from the run before
			if err := os.Remove(file); err != nil {
				return err
			}
			if err := os.WriteFile(file, []byte(value), 0o400); err != nil {
				return err
			}
		}
		if err := own(file, owner); err != nil {
			return err
		}
	}
	return nil
}

// ownDir makes a directory that belongs to the workload.
func ownDir(dir string, owner int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return own(dir, owner)
}

func own(path string, owner int) error {
	if owner == os.Getuid() {
		return nil
	}
	return os.Chown(path, owner, owner)
}
