package main

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hasp/capture"
)

func daemonSet() *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "hasp-cni-node"}}
}

// TestPlugin has a runtime start pods: the real plugin in a real chain, in real
// network namespaces.
func TestPlugin(t *testing.T) {
	meshed, plain := meshedPod("shop", "api", "u1"), plainPod("shop", "batch", "u2")
	n := newNode(t, meshed, plain)

	t.Run("meshed", func(t *testing.T) {
		ns := newPodNS(t)
		list, rt := n.network(t, meshed, ns)
		result, err := n.runtime.AddNetworkList(t.Context(), list, rt)
		if err != nil {
			t.Fatal(err)
		}
		r, err := types100.GetResult(result)
		if err != nil || len(r.IPs) != 1 || r.IPs[0].Address.String() != "10.9.0.2/24" {
			t.Errorf("the plugin before said %+v, %v", r, err)
		}
		sidecar := ns.listen(t, 15001)
		ns.within(t, func() error {
			c, err := net.DialTimeout("tcp4", "10.9.0.1:80", time.Minute)
			if err != nil {
				return err
			}
			return c.Close()
		})
		if err := sidecar.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if c, err := sidecar.Accept(); err != nil {
			t.Error(err)
		} else {
			c.Close()
		}
		if err := n.runtime.CheckNetworkList(t.Context(), list, rt); err != nil {
			t.Error(err)
		}
		if err := capture.Remove(int(ns.NsHandle)); err != nil {
			t.Fatal(err)
		}
		if err := n.runtime.CheckNetworkList(t.Context(), list, rt); err == nil || !strings.Contains(err.Error(), "the connections of this pod are not captured") {
			t.Errorf("check without the ruleset: %v", err)
		}
		if err := n.runtime.DelNetworkList(t.Context(), list, rt); err != nil {
			t.Error(err)
		}
	})
	t.Run("not meshed", func(t *testing.T) {
		ns := newPodNS(t)
		list, rt := n.network(t, plain, ns)
		if _, err := n.runtime.AddNetworkList(t.Context(), list, rt); err != nil {
			t.Fatal(err)
		}
		if there, err := capture.Installed(int(ns.NsHandle)); there || err != nil {
			t.Errorf("captured: %v, %v", there, err)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		list, rt := n.network(t, plainPod("shop", "ghost", "u9"), newPodNS(t))
		_, err := n.runtime.AddNetworkList(t.Context(), list, rt)
		if err == nil || !strings.Contains(err.Error(), "what to capture for pod shop/ghost: the agent says: there is no pod shop/ghost") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("own namespace", func(t *testing.T) {
		list, rt := n.network(t, meshed, newPodNS(t))
		rt.NetNS = "/proc/self/ns/net"
		_, err := n.runtime.AddNetworkList(t.Context(), list, rt)
		if err == nil || !strings.Contains(err.Error(), "netns") {
			t.Errorf("got %v", err)
		}
		if there, err := capture.Installed(-1); there || err != nil {
			t.Errorf("the node is captured: %v, %v", there, err)
		}
	})
	t.Run("without the agent", func(t *testing.T) {
		n.stop()
		ns := newPodNS(t)
		list, rt := n.network(t, meshed, ns)
		_, err := n.runtime.AddNetworkList(t.Context(), list, rt)
		if err == nil || !strings.Contains(err.Error(), "what to capture for pod shop/api: the agent does not answer") ||
			!strings.Contains(err.Error(), "hasp-cni uninstall --bin-dir "+n.bin) {
			t.Errorf("a pod of the mesh: %v", err)
		}
		list, rt = n.network(t, plainPod("kube-system", "coredns", "u3"), ns)
		if _, err := n.runtime.AddNetworkList(t.Context(), list, rt); err != nil {
			t.Errorf("a pod that the node needs to boot: %v", err)
		}
		if err := n.runtime.DelNetworkList(t.Context(), list, rt); err != nil {
			t.Error(err)
		}
	})
}

// TestVersion: the plugin says which specifications it speaks.
func TestVersion(t *testing.T) {
	n := newNode(t)
	info, err := n.runtime.GetVersionInfo(t.Context(), "hasp-cni")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(info.SupportedVersions(), " "); got != "0.3.0 0.3.1 0.4.0 1.0.0 1.1.0" {
		t.Errorf("got %s", got)
	}
	// STATUS came with 1.1.0.
	b, err := os.ReadFile(n.list())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.list(), []byte(strings.Replace(string(b), `"1.0.0"`, `"1.1.0"`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	n.stop()
	list, _ := n.network(t, plainPod("shop", "x", "u"), newPodNS(t))
	list.Plugins = list.Plugins[1:]
	if err := n.runtime.GetStatusNetworkList(t.Context(), list); err != nil {
		t.Errorf("status without the agent: %v", err)
	}
}
