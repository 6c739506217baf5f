package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"hasp/api"
	"hasp/capture"
	"hasp/mesh"
)

// fakeProxy is what this test binary is when the sandbox starts it as a proxy:
// it answers captured connections with what it knows of them. The real one is
// tested in package proxy.
func fakeProxy() int {
	var b mesh.Bootstrap
	if err := json.NewDecoder(os.NewFile(3, "bootstrap")).Decode(&b); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf("proxy of %s as %s with token %s, capabilities %s\n", b.Node, b.Identity, b.Token, capabilities())
	answer := func(direction string) func(net.Conn) {
		return func(c net.Conn) {
			defer c.Close()
			dst, err := capture.OriginalDst(c)
			if err != nil {
				fmt.Fprintln(c, err)
				return
			}
			d := net.Dialer{Control: capture.MarkControl(b.Mark)}
			up, err := d.Dial("tcp", dst.String())
			if err != nil {
				fmt.Fprintln(c, direction, dst, "|", err)
				return
			}
			defer up.Close()
			word, _ := io.ReadAll(up)
			fmt.Fprint(c, direction, " ", dst, " | ", string(word))
		}
	}
	for port, fd := range b.Inherited {
		l, err := net.FileListener(os.NewFile(uintptr(fd), "inherited"))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go accept(l, func(c net.Conn) { fmt.Fprintln(c, b.Role, port); c.Close() })
	}
	if b.Role == mesh.RoleSidecar {
		for direction, port := range map[string]int{"outbound": 15001, "inbound": 15006} {
			l, err := net.Listen("tcp", fmt.Sprint(":", port))
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			go accept(l, answer(direction))
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz/ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/die", func(http.ResponseWriter, *http.Request) { os.Exit(7) })
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":15021", mux))
	return 1
}

func accept(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serve(c)
	}
}

func capabilities() string {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// meshed is a Config with a proxy: this test binary.
func meshed(t *testing.T, gateway map[uint16]*os.File) func(*Config) {
	return func(c *Config) {
		script := t.TempDir() + "/proxy"
		self, err := os.Readlink("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+proxyEnv+"=1 exec "+self+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		var tokens atomic.Int64
		c.ProxyBinary = script
		c.Roots = func() string { return "roots" }
		c.JoinToken = func(namespace, pod, account string) (string, string, error) {
			return mesh.Identity("cluster.local", namespace, account), fmt.Sprint("token-", tokens.Add(1)), nil
		}
		c.GatewayListeners = gateway
		c.Images["hasp/gateway"] = Image{Gateway: true}
	}
}

func TestSidecar(t *testing.T) {
	w := newWorld(t, meshed(t, nil))
	out := w.server("outside", "outside", 80)
	p := w.serverPod("boards", "boards", 8080)
	p.Annotations = map[string]string{api.InjectKey: "true", api.ExcludeInboundPortsKey: "8081", api.ExcludeOutboundPortsKey: "81"}
	p.Spec.ServiceAccountName = "boards"
	w.create(p)
	in := w.untilReady("boards")

	t.Run("is a container of the pod", func(t *testing.T) {
		var names []string
		for _, c := range in.Status.ContainerStatuses {
			names = append(names, fmt.Sprint(c.Name, " ", c.Ready))
		}
		slices.Sort(names)
		if got := strings.Join(names, ", "); got != "istio-proxy true, main true" {
			t.Errorf("container statuses %s", got)
		}
		log := w.logsOf("boards", ProxyContainer)
		want := fmt.Sprintf("proxy of shop/boards as spiffe://cluster.local/ns/shop/sa/boards with token token-1, capabilities %016x\n", 1<<unix.CAP_NET_ADMIN)
		if log != want {
			t.Errorf("proxy's log %q, want %q", log, want)
		}
	})

	t.Run("gets what goes in and out", func(t *testing.T) {
		for _, c := range []struct{ from, to, want string }{
			{"boards", out.Status.PodIP + ":80", "outbound " + out.Status.PodIP + ":80 | outside to " + in.Status.PodIP},
			{"boards", "[" + out.Status.PodIPs[1].IP + "]:80", "outbound [" + out.Status.PodIPs[1].IP + "]:80 | outside to " + in.Status.PodIPs[1].IP},
			{"outside", in.Status.PodIP + ":8080", "inbound " + in.Status.PodIP + ":8080 | boards to " + in.Status.PodIP},
			{"outside", "[" + in.Status.PodIPs[1].IP + "]:8080", "inbound [" + in.Status.PodIPs[1].IP + "]:8080 | boards to " + in.Status.PodIPs[1].IP},
			{"outside", in.Status.PodIP + ":8081", "dial tcp " + in.Status.PodIP + ":8081: connect: connection refused"},
			{"boards", out.Status.PodIP + ":81", "dial tcp " + out.Status.PodIP + ":81: connect: connection refused"},
			{"boards", "10.96.3.3:80", "outbound 10.96.3.3:80 | dial tcp 10.96.3.3:80: connect: connection refused"},
		} {
			if got := w.say(c.from, c.to); got != c.want {
				t.Errorf("from %s to %s: %q, want %q", c.from, c.to, got, c.want)
			}
		}
	})

	t.Run("is started again with a new token", func(t *testing.T) {
		req := "http://" + in.Status.PodIP + ":15021/die"
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return w.network("outside").dial(ctx, addr)
		}}}
		if resp, err := client.Get(req); err == nil {
			resp.Body.Close()
			t.Fatal("the proxy did not die")
		}
		w.until("boards", "proxy restarted", func(p *corev1.Pod) bool {
			s := containerStatus(p, ProxyContainer)
			return isReady(p) && s.RestartCount == 1 && s.LastTerminationState.Terminated.ExitCode == 7
		})
		if log := w.logsOf("boards", ProxyContainer); !strings.Contains(log, "token-2") {
			t.Errorf("log of the second proxy: %q", log)
		}
	})
}

// TestNothingPassesTheProxy: a pod is captured before its proxy listens.
func TestNothingPassesTheProxy(t *testing.T) {
	w := newWorld(t, meshed(t, nil))
	w.s.cfg.ProxyBinary = need(t, "sleep") // never healthy: it ends at once
	out := w.server("outside", "outside", 80)
	p := simplePod("waiting", "true")
	p.Labels[api.InjectKey] = "true"
	w.create(p)
	w.until("waiting", "proxy restarting", func(p *corev1.Pod) bool {
		s := containerStatus(p, ProxyContainer)
		return s != nil && s.RestartCount > 0
	})
	got, err := w.client.CoreV1().Pods(ns).Get(t.Context(), "waiting", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := containerStatus(got, "main"); s.State.Waiting == nil || got.Status.Phase != corev1.PodPending {
		t.Errorf("the workload did not wait for its proxy: %+v", s.State)
	}
	addr := out.Status.PodIP + ":80"
	if got, want := w.say("waiting", addr), "dial tcp "+addr+": connect: connection refused"; got != want {
		t.Errorf("past the proxy: %q, want %q", got, want)
	}
}

func TestGateway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // stands for the host's
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := newWorld(t, meshed(t, map[uint16]*os.File{443: f}))
	p := simplePod("gateway")
	p.Spec.Containers = []corev1.Container{{Name: ProxyContainer, Image: "docker.io/hasp/gateway:1.0"}}
	w.create(p)
	ready := w.untilReady("gateway")
	if n := len(ready.Status.ContainerStatuses); n != 1 {
		t.Errorf("%d containers, want 1", n)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil || string(b) != "gateway 443\n" {
		t.Errorf("the gateway said %q, %v", b, err)
	}
}

func TestProbesPassAStrictProxy(t *testing.T) {
	w := newWorld(t, meshed(t, nil))
	p := w.serverPod("boards", "boards", 8080)
	p.Labels[api.InjectKey] = "true"
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(8080)}}}
	p.Spec.Containers[0].Command = []string{need(t, "python3"), "-m", "http.server", "8080"}
	w.create(p)
	w.untilReady("boards")
}
