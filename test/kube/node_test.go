package kube_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hasp/test/kube/node"
	"hasp/test/meshtest"
)

// server is a Deployment with a Service of both families, and a probe of each
// kind.
const server = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  replicas: 2
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: server
        image: test/pod
        args: [serve, ":8080"]
        env: [{name: NAME, value: server}]
        ports: [{name: http, containerPort: 8080}]
        startupProbe: {tcpSocket: {port: http}, periodSeconds: 1}
        readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1}
        livenessProbe: {httpGet: {path: /live, port: http}}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: server}
  ports: [{name: http, port: 80, targetPort: http}]
`

func TestNode(t *testing.T) {
	n := cluster(t)
	got := must(t, n, "kubectl", "get", "nodes",
		"-o", `jsonpath={range .items[*]}{.metadata.name} {.status.nodeInfo.kubeletVersion} {.spec.podCIDRs} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`)
	if want := "node1 v1.37.2 [\"10.244.0.0/24\",\"fd00:10:244::/64\"] True\n"; got != want {
		t.Errorf("the nodes are %q, want %q", got, want)
	}
	for _, tool := range []string{"kubectl", "oc"} {
		if out := must(t, n, tool, "version"); !strings.Contains(out, "Server Version: v1.37.2") {
			t.Errorf("%s version says %q", tool, out)
		}
	}
	if out := must(t, n, "helm", "version", "--short"); !strings.HasPrefix(out, "v4.") {
		t.Errorf("helm version says %q", out)
	}
}

// TestWorkload: what a user's first day with a cluster needs.
func TestWorkload(t *testing.T) {
	n := cluster(t)
	ns := namespace(t, n)
	apply(t, n, ns, server)
	must(t, n, "kubectl", "-n", ns, "rollout", "status", "deployment/server", "--timeout=180s")

	t.Run("names and both families", func(t *testing.T) {
		for _, family := range []string{"-4", "-6"} {
			url := "http://server." + ns + ".svc.cluster.local/hello"
			out := must(t, n, "oc", "-n", ns, "run", "curl"+family, "-i", "--rm", "-q", "--restart=Never", "--image=appropriate/curl",
				"--", "-sS", family, url)
			if out != "server at /hello\n" {
				t.Errorf("curl %s %s says %q", family, url, out)
			}
		}
	})
	t.Run("the API server's Service", func(t *testing.T) {
		out := must(t, n, "oc", "-n", ns, "run", "api", "-i", "--rm", "-q", "--restart=Never", "--image=appropriate/curl",
			"--", "-sSk", "https://kubernetes.default/healthz")
		if out != "ok" {
			t.Errorf("it says %q", out)
		}
	})
	t.Run("logs", func(t *testing.T) {
		if out := must(t, n, "kubectl", "-n", ns, "logs", "deployment/server"); !strings.Contains(out, "GET /ready\n") {
			t.Errorf("the log is %q", out)
		}
	})
	t.Run("exec", func(t *testing.T) {
		_, err := try(t, n, "kubectl", "-n", ns, "exec", "deployment/server", "--", "/pod")
		if err == nil || !strings.Contains(err.Error(), "pod: usage: pod serve ADDRESS") {
			t.Errorf("it says %v", err)
		}
	})
	t.Run("port-forward", func(t *testing.T) { portForward(t, n, ns) })
}

func portForward(t *testing.T, n *node.Node, ns string) {
	ctx, stop := context.WithCancel(t.Context())
	cmd := n.Command(ctx, "kubectl", "-n", ns, "port-forward", "service/server", ":80")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("it says %q: %v", line, err)
	}
	var port int
	if _, err := fmt.Sscanf(line, "Forwarding from 127.0.0.1:%d", &port); err != nil {
		t.Fatalf("it says %q", line)
	}
	if got := must(t, n, "curl", "-sS", fmt.Sprintf("http://127.0.0.1:%d/forwarded", port)); got != "server at /forwarded\n" {
		t.Errorf("curl says %q", got)
	}
}

// TestSidecar: the shape of an injected pod works here. An init container with
// NET_ADMIN and no more redirects, and a native sidecar without any capability
// takes what was for the application, and ends after it.
func TestSidecar(t *testing.T) {
	n := cluster(t)
	ns := namespace(t, n)
	apply(t, n, ns, `
apiVersion: batch/v1
kind: Job
metadata: {name: meshed}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      initContainers:
      - name: init
        image: test/pod
        args: [redirect, "8080", "9090"]
        securityContext:
          runAsUser: 0
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL], add: [NET_ADMIN]}
      - name: proxy
        image: test/pod
        args: [serve, ":9090"]
        env: [{name: NAME, value: proxy}]
        restartPolicy: Always
        startupProbe: {httpGet: {path: /started, port: 9090}, periodSeconds: 1}
        securityContext:
          runAsUser: 1337
          runAsGroup: 1337
          runAsNonRoot: true
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
          seccompProfile: {type: RuntimeDefault}
      containers:
      - name: app
        image: appropriate/curl
        args: ["-sS", "--retry", "60", "--retry-delay", "1", "--retry-all-errors", "http://stop.`+ns+`:8080/"]
`)
	selector := "-l=job-name=meshed"
	must(t, n, "kubectl", "-n", ns, "wait", "pod", selector, "--for=jsonpath={.status.initContainerStatuses[1].started}=true", "--timeout=180s")
	ip := must(t, n, "kubectl", "-n", ns, "get", "pod", selector, "-o", "jsonpath={.items[0].status.podIP}")
	if got := must(t, n, "curl", "-sS", "http://"+ip+":8080/app"); got != "proxy at /app\n" {
		t.Errorf("port 8080 of the pod says %q", got)
	}
	// The application waits for this Service; then it is done, and so is the Job.
	apply(t, n, ns, `
apiVersion: v1
kind: Service
metadata: {name: stop}
spec: {selector: {job-name: meshed}, publishNotReadyAddresses: true, ports: [{port: 8080}]}
`)
	must(t, n, "kubectl", "-n", ns, "wait", "job/meshed", "--for=condition=Complete", "--timeout=180s")
}

// TestWire: the witness sees what crosses the bridge.
func TestWire(t *testing.T) {
	n := cluster(t)
	ns := namespace(t, n)
	apply(t, n, ns, server)
	must(t, n, "kubectl", "-n", ns, "rollout", "status", "deployment/server", "--timeout=180s")
	sniff := meshtest.Build(t, "sniff")
	s := meshtest.Listen(t, n.Command(context.Background(), sniff, node.Bridge))
	must(t, n, "oc", "-n", ns, "run", "curl", "-i", "--rm", "-q", "--restart=Never", "--image=appropriate/curl", "--",
		"-sS", "http://server/HASP-MARK-kube-node")
	report := s.Report(t)
	for _, c := range report.Connections {
		if slices.Contains(c.FromClient.Markers, "HASP-MARK-kube-node") {
			return
		}
	}
	t.Errorf("the marker is in none of %d connections", len(report.Connections))
}

// TestKubeletRestart: containers go on while the kubelet is away.
func TestKubeletRestart(t *testing.T) {
	n := cluster(t)
	ns := namespace(t, n)
	apply(t, n, ns, server)
	must(t, n, "kubectl", "-n", ns, "rollout", "status", "deployment/server", "--timeout=180s")
	before := must(t, n, "kubectl", "-n", ns, "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].containerID}")
	if err := n.RestartKubelet(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := must(t, n, "kubectl", "-n", ns, "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].containerID}")
	if before != after {
		t.Errorf("the containers were %s, and are %s", before, after)
	}
	must(t, n, "kubectl", "-n", ns, "scale", "deployment/server", "--replicas=3")
	must(t, n, "kubectl", "-n", ns, "rollout", "status", "deployment/server", "--timeout=180s")
}

// TestKilled: a program that is killed takes its node with it, and the next start
// removes what it could not.
func TestKilled(t *testing.T) {
	need(t)
	dir := t.TempDir()
	program := meshtest.Build(t, "kube/cmd/kube")
	bin := filepath.Join(meshtest.Root(), "bin", "kube")
	first := start(t, program, "-bin", bin, "-images", "", "-dir", filepath.Join(dir, "first"))
	family := meshtest.Family(t, first.Process.Pid)
	if len(family) < 10 {
		t.Errorf("only %d processes are a node: %v", len(family), family)
	}
	if err := syscall.Kill(first.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	first.Wait()
	eventually(t, "all processes of the killed node to end", func() error {
		for _, p := range family {
			if p.Alive() {
				return fmt.Errorf("%s lives", p)
			}
		}
		return nil
	})
	cgroups := func() []string {
		found, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/hasp-kube-%d-*", first.Process.Pid))
		alone, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/hasp-kube-%d-*", first.Process.Pid))
		return append(found, alone...)
	}
	if len(cgroups()) == 0 {
		t.Error("a killed program left no cgroup: does this test look where they are?")
	}
	second := start(t, program, "-bin", bin, "-images", "", "-dir", filepath.Join(dir, "second"))
	if left := cgroups(); len(left) > 0 {
		t.Errorf("the next start left %v", left)
	}
	if err := second.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
}

// start cmd/kube and wait until the node is up.
func start(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if !strings.HasPrefix(line, "The node is up.") {
		t.Fatalf("it says %q: %v", line, err)
	}
	return cmd
}
