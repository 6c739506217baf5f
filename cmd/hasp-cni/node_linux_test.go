package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"hasp/cni"
)

// node is a node as far as the plugin knows one: a runtime (libcni) with a
// network of one plugin, and an agent.
type node struct {
	bin, conf, socket string
	runtime           *libcni.CNIConfig
	stop              func() // the agent, and waits
}

func newNode(t *testing.T, pods ...*corev1.Pod) *node {
	t.Helper()
	if os.Getenv(inside) == "" {
		const why = "no user namespaces here (user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	dir := t.TempDir()
	n := &node{bin: filepath.Join(dir, "bin"), conf: filepath.Join(dir, "net.d"), socket: filepath.Join(dir, "s")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Mkdir(n.bin, 0o755), os.Mkdir(n.conf, 0o755), os.Symlink(self, filepath.Join(n.bin, "first")),
		os.WriteFile(n.list(), []byte(`{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"first"}]}`), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	n.runtime = libcni.NewCNIConfigWithCacheDir([]string{n.bin}, filepath.Join(dir, "cache"), nil)

	client := fake.NewClientset(daemonSet())
	for _, p := range pods {
		if err := client.Tracker().Add(p); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- cni.Run(ctx, cni.Config{
			Client: client, Node: "node-1", Socket: n.socket, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
			DaemonSet: types.NamespacedName{Namespace: "istio-system", Name: "hasp-cni-node"},
			Install: cni.Installer{
				Program: self, BinDir: n.bin, ConfDir: n.conf, Chained: true,
				Settings: cni.Settings{Socket: n.socket, ExcludeNamespaces: []string{"kube-system"}},
			},
		})
	}()
	stopped := false
	n.stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(n.stop)
	n.waitReady(t)
	return n
}

func (n *node) list() string { return filepath.Join(n.conf, "10-pods.conflist") }

func (n *node) waitReady(t *testing.T) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := cni.Ready(ctx, n.socket)
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

// network is the configuration as a runtime reads it, and what it says of a pod.
func (n *node) network(t *testing.T, p *corev1.Pod, ns *podNS) (*libcni.NetworkConfigList, *libcni.RuntimeConf) {
	t.Helper()
	list, err := libcni.ConfListFromFile(n.list())
	if err != nil {
		t.Fatal(err)
	}
	rt := &libcni.RuntimeConf{ContainerID: string(p.UID), NetNS: ns.path(), IfName: "eth0"}
	rt.Args = [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", p.Namespace}, {"K8S_POD_NAME", p.Name}, {"K8S_POD_UID", string(p.UID)}}
	return list, rt
}

// podNS is a pod's network namespace.
type podNS struct{ netns.NsHandle }

func (p *podNS) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(p.NsHandle)) }

// newPodNS is a namespace with an interface that leads nowhere.
func newPodNS(t *testing.T) *podNS {
	t.Helper()
	var ns netns.NsHandle
	var err error
	onThread(func() {
		if ns, err = netns.New(); err == nil {
			err = furnish(ns)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return &podNS{ns}
}

func furnish(ns netns.NsHandle) error {
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	la := netlink.NewLinkAttrs()
	la.Name = "eth0"
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: "peer"}); err != nil {
		return err
	}
	for name, address := range map[string]string{"lo": "", "peer": "", "eth0": "10.9.0.2/24"} {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		if err := h.LinkSetUp(link); err != nil {
			return err
		}
		if address == "" {
			continue
		}
		a, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		if err := h.AddrAdd(link, a); err != nil {
			return err
		}
	}
	return nil
}

// within runs do in the namespace.
func (p *podNS) within(t *testing.T, do func() error) {
	t.Helper()
	var err error
	onThread(func() {
		if err = netns.Set(p.NsHandle); err == nil {
			err = do()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// listen on a port of the namespace.
func (p *podNS) listen(t *testing.T, port int) *net.TCPListener {
	t.Helper()
	var l net.Listener
	p.within(t, func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf(":%d", port))
		return err
	})
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// onThread runs do on a thread that ends with it.
func onThread(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is thrown away
		do()
	}()
	<-done
}

func meshedPod(namespace, name, uid string) *corev1.Pod {
	user, always := int64(1337), corev1.ContainerRestartPolicyAlways
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(uid),
			Annotations: map[string]string{"sidecar.istio.io/status": `{"initContainers":["istio-proxy"]}`},
		},
		Spec: corev1.PodSpec{
			NodeName:       "node-1",
			InitContainers: []corev1.Container{{Name: "istio-proxy", RestartPolicy: &always, SecurityContext: &corev1.SecurityContext{RunAsUser: &user}}},
			Containers:     []corev1.Container{{Name: "app"}},
		},
	}
}

func plainPod(namespace, name, uid string) *corev1.Pod {
	p := meshedPod(namespace, name, uid)
	p.Annotations, p.Spec.InitContainers = nil, nil
	return p
}
