package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// prepared is a launch and the descriptors that have to be closed after it.
type prepared struct {
	launch
	mine []*os.File
}

func (n *prepared) close() {
	for _, f := range n.mine {
		f.Close()
	}
	n.mine = nil
}

// prepare turns the container into a launch.
func (c *container) prepare(ctx context.Context) (*prepared, error) {
	obj := c.p.object()
	c.p.mu.Lock()
	l := launch{network: c.p.net, hostname: hostnameOf(obj)}
	c.p.mu.Unlock()
	l.rooms.hide = append([]string{c.p.s.cfg.StateDir}, c.p.s.cfg.Hide...)
	if c.kind == proxyKind || c.kind == gatewayKind {
		return c.prepareProxy(l, obj)
	}
	env, err := c.p.environment(ctx, obj, c)
	if err != nil {
		return nil, err
	}
	if err := c.command(&l, env); err != nil {
		return nil, err
	}
	l.uid, l.gid = identity(obj, c.spec)
	l.rooms.files = etcFiles(obj.Namespace, l.hostname, c.p.ip4, c.p.ip6)
	for path, known := range map[string]string{
		"/etc/passwd": fmt.Sprintf("app:x:%d:%d:workload:%s:/bin/sh", l.uid, l.gid, podDir),
		"/etc/group":  fmt.Sprintf("app:x:%d:", l.gid),
	} {
		if l.rooms.files[path], err = withEntry(path, known); err != nil {
			return nil, err
		}
	}
	if err := c.p.furnish(ctx, obj, c, &l); err != nil {
		return nil, err
	}
	return &prepared{launch: l}, nil
}

func hostnameOf(obj *corev1.Pod) string {
	name := obj.Spec.Hostname
	if name == "" {
		name = obj.Name
	}
	return strings.TrimRight(name[:min(len(name), 63)], ".-")
}

// command says what to run: the container's command or the image's program,
// then the container's args, or without any the image's.
func (c *container) command(l *launch, env environment) error {
	argv := slices.Clone(c.image.Program)
	args := c.image.Args
	if len(c.spec.Command) > 0 {
		argv, args = env.expandAll(c.spec.Command), nil
	}
	if len(c.spec.Args) > 0 {
		args = env.expandAll(c.spec.Args)
	}
	argv = append(argv, args...)
	if len(argv) == 0 || argv[0] == "" {
		return fmt.Errorf("image %q has no program of its own: the container needs a command", c.spec.Image)
	}
	path, err := lookPath(argv[0], c.p.s.cfg.Path)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	l.path, l.argv, l.env = path, argv, env.list()
	l.dir = podDir
	for _, dir := range []string{c.image.WorkingDir, c.spec.WorkingDir} {
		if dir != "" {
			l.dir = dir
		}
	}
	return nil
}

// identity is what the container is inside its user namespace.
func identity(obj *corev1.Pod, spec corev1.Container) (uid, gid int) {
	uid = workloadUID
	gid = -1
	if sc := obj.Spec.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			uid = int(*sc.RunAsUser)
		}
		if sc.RunAsGroup != nil {
			gid = int(*sc.RunAsGroup)
		}
	}
	if sc := spec.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			uid = int(*sc.RunAsUser)
		}
		if sc.RunAsGroup != nil {
			gid = int(*sc.RunAsGroup)
		}
	}
	if gid < 0 {
		gid = uid
	}
	return uid, gid
}

// withEntry is a file of the host's user database with an entry added, unless
// it has one for that number: some programs refuse to run as nobody.
func withEntry(path, entry string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return "", err
	}
	number := strings.Split(entry, ":")[2]
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(line, ":"); len(f) > 2 && strings.TrimSpace(f[2]) == number {
			return string(b), nil
		}
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		b = append(b, '\n')
	}
	return string(b) + entry + "\n", nil
}
