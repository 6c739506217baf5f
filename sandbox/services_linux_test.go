package sandbox

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// server is a pod that serves a word on a port, until it is deleted.
func (w *world) server(name, app string, port int) *corev1.Pod {
	w.t.Helper()
	w.create(w.serverPod(name, app, port))
	return w.untilReady(name)
}

func (w *world) serverPod(name, app string, port int) *corev1.Pod {
	w.t.Helper()
	python := need(w.t, "python3")
	p := simplePod(name, python, "-u", "-c", fmt.Sprintf(`
import socket, threading
s = socket.create_server(("", %d), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, peer = s.accept()
    c.sendall(("%s to " + peer[0].removeprefix("::ffff:") + "\n").encode()); c.close()
`, port, name))
	p.Labels["app"] = app
	grace := int64(0)
	p.Spec.TerminationGracePeriodSeconds = &grace
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "word", ContainerPort: int32(port)}}
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("word")}}}
	return p
}

func (w *world) service(name, app string, port int, target intstr.IntOrString, ips ...string) {
	w.t.Helper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns},
		Spec: corev1.ServiceSpec{ClusterIP: ips[0], ClusterIPs: ips, Selector: map[string]string{"app": app},
			Ports: []corev1.ServicePort{{Name: "word", Port: int32(port), TargetPort: target}}},
	}
	if ips[0] == corev1.ClusterIPNone {
		svc.Spec.ClusterIPs = ips[:1]
	}
	if _, err := w.client.CoreV1().Services(ns).Create(w.t.Context(), svc, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	w.eventually("DNS knows "+name, func() bool { return w.s.resolver.zone.Load().has(serviceName(svc)) }, func() string { return "" })
}

// fetch is a shell command that prints what a server says, or why it does not.
const fetch = `import socket, sys
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    try:
        c = socket.create_connection((host, int(port)), 30)
        print(target, c.recv(100).decode().strip())
    except OSError as e:
        print(target, e.strerror or e)
`

func (w *world) fetch(name string, targets ...string) []string {
	w.t.Helper()
	return strings.Split(strings.TrimSpace(w.output(name, append([]string{need(w.t, "python3"), "-c", fetch}, targets...)...)), "\n")
}

func TestServices(t *testing.T) {
	w := newWorld(t, nil)
	one := w.server("one", "words", 8080)
	two := w.server("two", "words", 8080)
	w.service("words", "words", 80, intstr.FromString("word"), "10.96.0.10", "fd96::10")
	w.service("peers", "words", 8080, intstr.IntOrString{}, corev1.ClusterIPNone)
	w.service("nobody", "no such pod", 80, intstr.FromInt32(80), "10.96.0.11", "fd96::11")

	t.Run("by name and address", func(t *testing.T) {
		got := w.fetch("client",
			"words:80", "words.shop:80", "words.shop.svc.cluster.local:80", "10.96.0.10:80", "fd96::10:80", "peers:8080",
			one.Status.PodIP+":8080", one.Status.PodIPs[1].IP+":8080",
			"10.96.0.10:81", "nobody:80", "fd96::11:80", "10.96.7.7:80", "10.88.0.1:80", "nowhere:80", "example.com:80")
		want := []string{
			"words:80 WORD to fd77::", "words.shop:80 WORD to fd77::", "words.shop.svc.cluster.local:80 WORD to fd77::",
			"10.96.0.10:80 WORD to 10.77.0.", "fd96::10:80 WORD to fd77::", "peers:8080 WORD to fd77::",
			one.Status.PodIP + ":8080 WORD to 10.77.0.", one.Status.PodIPs[1].IP + ":8080 WORD to fd77::",
			"10.96.0.10:81 Connection refused", "nobody:80 Connection refused", "fd96::11:80 Connection refused",
			"10.96.7.7:80 Connection refused", "10.88.0.1:80 Network is unreachable",
			"nowhere:80 Name or service not known", "example.com:80 Name or service not known",
		}
		if len(got) != len(want) {
			t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
		}
		for i := range want {
			line := strings.NewReplacer(" one to ", " WORD to ", " two to ", " WORD to ").Replace(got[i])
			if !strings.HasPrefix(line, want[i]) {
				t.Errorf("got %q, want %q", got[i], want[i])
			}
		}
	})

	t.Run("both pods serve", func(t *testing.T) {
		var targets []string
		for range 40 {
			targets = append(targets, "10.96.0.10:80")
		}
		all := strings.Join(w.fetch("many", targets...), "\n")
		if !strings.Contains(all, "one to") || !strings.Contains(all, "two to") {
			t.Errorf("40 connections did not reach both pods:\n%s", all)
		}
	})

	t.Run("a pod reaches itself through its service", func(t *testing.T) {
		if err := w.client.CoreV1().Pods(ns).Delete(t.Context(), two.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, vip := range []string{"10.96.0.10:80", "[fd96::10]:80"} {
			var got string
			w.eventually("one reaches itself at "+vip, func() bool {
				got = w.say("one", vip) // it may still be sent to two
				return got == "one to "+hairpin.v4().String() || got == "one to "+hairpin.v6().String()
			}, func() string { return got })
		}
	})
}

// say is what a server answers to a connection from a pod's network.
func (w *world) say(from, addr string) string {
	w.t.Helper()
	var out string
	err := inNetwork(w.network(from), func() error {
		c, err := net.DialTimeout("tcp", addr, time.Minute)
		if err != nil {
			return err
		}
		defer c.Close()
		b := make([]byte, 100)
		n, err := c.Read(b)
		out = strings.TrimSpace(string(b[:n]))
		return err
	})
	if err != nil {
		return err.Error()
	}
	return out
}

func TestUDPService(t *testing.T) {
	w := newWorld(t, nil)
	w.create(simplePod("udp", need(t, "python3"), "-c", `
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); s.bind(("", 5353))
while True: d, a = s.recvfrom(100); s.sendto(d.upper(), a)
`))
	w.untilReady("udp")
	w.create(simplePod("client", "sleep", "1000"))
	w.untilReady("client")
	svc := testService("udp", "udp", corev1.ServicePort{Port: 53, TargetPort: intstr.FromInt32(5353), Protocol: corev1.ProtocolUDP}, "10.96.0.53", "fd96::53")
	if _, err := w.client.CoreV1().Services(ns).Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, vip := range []string{"10.96.0.53:53", "[fd96::53]:53"} {
		var got string
		w.eventually("an answer from "+vip, func() bool {
			err := inNetwork(w.network("client"), func() error {
				c, err := net.Dial("udp", vip)
				if err != nil {
					return err
				}
				defer c.Close()
				if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
					return err
				}
				fmt.Fprint(c, "word")
				b := make([]byte, 100)
				n, err := c.Read(b)
				got = string(b[:n])
				return err
			})
			return err == nil && got == "WORD"
		}, func() string { return got })
	}
}

func TestPodCannotLeaveItsPlace(t *testing.T) {
	secret := t.TempDir()
	if err := os.WriteFile(secret+"/key.pem", []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config) { c.Hide = []string{secret} })
	got := w.output("prisoner", need(t, "python3"), "-c", `
import os, socket, sys
def attempt(what, f):
    try: print(what, f())
    except OSError as e: print(what, e.strerror)
attempt("mark", lambda: socket.socket().setsockopt(socket.SOL_SOCKET, 36, 1337))
attempt("raw", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))
attempt("write /etc", lambda: open("/etc/hasp-was-here", "w"))
attempt("write /usr", lambda: open("/usr/hasp-was-here", "w"))
attempt("secret", lambda: open("`+secret+`/key.pem").read())
attempt("state", lambda: os.listdir("`+w.cfg.StateDir+`"))
attempt("mount", lambda: os.listdir("/proc/1/root"))
attempt("kill", lambda: os.kill(2, 9))
print("uid", os.getuid(), "cwd", os.getcwd(), "host", socket.gethostname())
open("mine", "w").write("x"); open("/tmp/hasp-test-tmp", "w").write("x"); os.remove("/tmp/hasp-test-tmp")
`)
	// Root's directories are closed to workloads, an ordinary user's are empty.
	got = strings.NewReplacer("secret Permission denied", "secret -", "secret No such file or directory", "secret -",
		"state Permission denied", "state -", "state []", "state -", "state No such file or directory", "state -").Replace(got)
	for _, want := range []string{
		"mark Operation not permitted\n", "raw Operation not permitted\n",
		"write /etc Read-only file system\n", "write /usr Read-only file system\n",
		"secret -\n", "state -\n",
		"mount Permission denied\n", "kill No such process\n",
		"uid 1000 cwd /run/pod host prisoner\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("output lacks %q:\n%s", want, got)
		}
	}
}

// TestRunDirectories: a server finds the directory in /run that its package
// made on the host, empty and its own.
func TestRunDirectories(t *testing.T) {
	if err := os.MkdirAll("/run/some-server", 0o755); err != nil { // this test's /run is Setup's
		t.Fatal(err)
	}
	if err := os.WriteFile("/run/some-server/host.pid", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil)
	if got := w.output("server", "sh", "-c", "touch /run/some-server/my.pid && ls /run/some-server"); got != "my.pid\n" {
		t.Errorf("output %q", got)
	}
}

// TestNestedRootCannotMark: becoming root of one more user namespace is no way
// out either.
func TestNestedRootCannotMark(t *testing.T) {
	unshare := need(t, "unshare")
	w := newWorld(t, nil)
	got := w.output("climber", unshare, "-r", need(t, "python3"), "-c", `
import os, socket
print("uid", os.getuid())
try: socket.socket().setsockopt(socket.SOL_SOCKET, 36, 1337); print("marked")
except OSError as e: print(e.strerror)
`)
	if got != "uid 0\nOperation not permitted\n" {
		t.Errorf("output %q", got)
	}
}
