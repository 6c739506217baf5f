package node

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

// Bridge is the interface that every packet between pods crosses, in the node's
// network namespace.
const Bridge = "pods0"

const (
	nodeName = "node1"
	nodeIPv4 = "172.30.0.2"
	nodeIPv6 = "fd00:172:30::2"

	podCIDRs       = "10.244.0.0/16,fd00:10:244::/56"
	serviceCIDRs   = "10.96.0.0/16,fd00:10:96::/112"
	firstServiceIP = "10.96.0.1"
	clusterDNS     = "10.96.0.10"

	registryAddress = "127.0.0.1:5000"
	pauseImage      = "registry.k8s.io/pause:3.10"
	coreDNSImage    = "registry.k8s.io/coredns/coredns:test"
)

// volumes is how many claims of up to 1 GiB can be bound.
const volumes = 10

//go:embed files
var files embed.FS

// layout is the node as a value: names, addresses, and where its files are. The
// templates in files/ are filled with it.
type layout struct {
	Dir      string // of everything the node writes
	Bin      string // of "make kube-cluster"
	Images   string // of image archives, or ""
	Programs map[string]string
	Cgroup   string // below which all pods are

	Name, IPv4, IPv6       string
	PodCIDRs, ServiceCIDRs string
	DNS                    string
	Registry               string
	Bridge                 string
	CoreDNS                string
}

// volume is a directory that a claim can get.
type volume struct{ Name, Path string }

func newLayout(c Config, cgroup string) layout {
	return layout{
		Dir: c.Dir, Bin: c.Bin, Images: c.Images, Programs: c.Programs, Cgroup: cgroup,
		Name: nodeName, IPv4: nodeIPv4, IPv6: nodeIPv6,
		PodCIDRs: podCIDRs, ServiceCIDRs: serviceCIDRs, DNS: clusterDNS,
		Registry: registryAddress, Bridge: Bridge, CoreDNS: coreDNSImage,
	}
}

// Volumes that claims can get.
func (l layout) Volumes() []volume {
	var out []volume
	for i := range volumes {
		name := fmt.Sprintf("volume-%d", i)
		out = append(out, volume{Name: name, Path: filepath.Join(l.Dir, "volumes", name)})
	}
	return out
}

// path of a file of the node.
func (l layout) path(elem ...string) string {
	return filepath.Join(append([]string{l.Dir}, elem...)...)
}

// write the node's directory: configuration, certificates, programs' names.
func (l layout) write() error {
	for _, dir := range []string{"bin", "log", "etc/certs.d/_default", "kubelet", "containerd", "volumeplugins"} {
		if err := os.MkdirAll(l.path(dir), 0o755); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{
		"containerd.toml": "etc/containerd.toml",
		"hosts.toml":      "etc/certs.d/_default/hosts.toml",
		"kubelet.yaml":    "etc/kubelet.yaml",
		"proxy.yaml":      "etc/proxy.yaml",
		"cni.conflist":    "etc/cni.conflist",
		"audit.yaml":      "etc/audit.yaml",
		"addons.yaml":     "etc/addons.yaml",
		"init.sh":         "init.sh",
	} {
		if err := l.render(name, l.path(to)); err != nil {
			return err
		}
	}
	// The node itself asks the cluster's DNS; a pod that asks the node's, nobody.
	if err := os.WriteFile(l.path("etc/resolv.conf"), []byte("nameserver "+l.DNS+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(l.path("etc/resolv.none"), nil, 0o644); err != nil {
		return err
	}
	for _, v := range l.Volumes() {
		if err := os.MkdirAll(v.Path, 0o755); err != nil {
			return err
		}
		// Whatever user a container has.
		if err := os.Chmod(v.Path, 0o777); err != nil {
			return err
		}
	}
	for _, name := range programs {
		if err := os.Symlink(filepath.Join(l.Bin, "kubernetes"), l.path("bin", name)); err != nil {
			return err
		}
	}
	return l.writePKI()
}

func (l layout) render(name, to string) error {
	t, err := template.ParseFS(files, "files/"+name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, l); err != nil {
		return fmt.Errorf("fill %s: %w", name, err)
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}
