package kube_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestServiceAccount: who may call is a question of identity, and identity is
// the ServiceAccount's that the API server vouches for.
func TestServiceAccount(t *testing.T) {
	n := mesh(t)
	ns := inMesh(t, n)
	apply(t, n, ns, server)
	change(t, n, func() {
		apply(t, n, ns, `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: friends}
spec:
  selector: {matchLabels: {app: server}}
  rules: [{from: [{source: {principals: ["cluster.local/ns/`+ns+`/sa/friend"]}}]}]
`)
	})
	must(t, n, "kubectl", "-n", ns, "rollout", "status", "deployment/server", "--timeout=180s")
	for account, served := range map[string]bool{"friend": true, "stranger": false} {
		must(t, n, "kubectl", "-n", ns, "create", "serviceaccount", account)
		apply(t, n, ns, callerAs(account, account, "http://server/"+account))
		end := "Failed"
		if served {
			end = "Complete"
		}
		if _, err := try(t, n, "kubectl", "-n", ns, "wait", "job/"+account, "--for=condition="+end, "--timeout=30s"); err != nil {
			t.Error(err)
		}
		out := must(t, n, "kubectl", "-n", ns, "logs", "job/"+account, "-c", "curl")
		if served && out != "server at /friend\n" || !served && strings.Contains(out, "server at") {
			t.Errorf("%s was answered %q", account, out)
		}
	}
	log := must(t, n, "kubectl", "-n", ns, "logs", "-l", "app=server", "-c", "istio-proxy", "--tail=-1")
	if want := "spiffe://cluster.local/ns/" + ns + "/sa/stranger"; !strings.Contains(log, want) {
		t.Errorf("the server's proxy does not tell of %s:\n%s", want, log)
	}
}

// TestProbes: the kubelet, which has no certificate, is answered by servers that
// take mutual TLS alone, for just what the pod's probes ask; the probes stay as
// they were written.
func TestProbes(t *testing.T) {
	n := mesh(t)
	ns := inMesh(t, n)
	apply(t, n, ns, `
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: http
    image: test/pod
    args: [serve, ":8080"]
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {exec: {command: [/pod, ask, "http://127.0.0.1:8080/exec"]}, periodSeconds: 1}
    readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1}
    livenessProbe: {httpGet: {path: /live, port: 8080, httpHeaders: [{name: X-Probe, value: live}]}, periodSeconds: 1, failureThreshold: 1}
  - name: tcp
    image: test/pod
    args: [serve, ":7000"]
    readinessProbe: {tcpSocket: {port: 7000}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 7000}, periodSeconds: 1, failureThreshold: 5}
  - name: grpc
    image: test/pod
    args: [health, ":9000"]
    readinessProbe: {grpc: {port: 9000}, periodSeconds: 1}
    livenessProbe: {grpc: {port: 9000}, periodSeconds: 1, failureThreshold: 5}
`)
	must(t, n, "kubectl", "-n", ns, "wait", "pod/probed", "--for=condition=Ready", "--timeout=180s")
	got := must(t, n, "kubectl", "-n", ns, "get", "pod", "probed", "-o",
		`jsonpath={range .spec.containers[*]}{.name} {.readinessProbe.httpGet.port}{.readinessProbe.tcpSocket.port}{.readinessProbe.grpc.port} {end}`)
	if want := "http http tcp 7000 grpc 9000 "; got != want {
		t.Errorf("the probes are %q, and were written %q", got, want)
	}
	// The liveness probe is asked each second, and one that fails restarts.
	eventually(t, "five probes for life", func() error {
		log, err := try(t, n, "kubectl", "-n", ns, "logs", "probed", "-c", "http")
		if n := strings.Count(log, "GET /live\n"); err == nil && n < 5 {
			err = fmt.Errorf("%d of them so far", n)
		}
		return err
	})
	if restarts := must(t, n, "kubectl", "-n", ns, "get", "pod", "probed", "-o", "jsonpath={.status.containerStatuses[*].restartCount}"); restarts != "0 0 0" {
		t.Errorf("its containers were restarted %s times", restarts)
	}
	// Somebody else without a certificate learns no more than that it lives.
	ip := podNamed(t, n, ns, "probed").Status.PodIP
	for _, path := range []string{"/", "/other", "/ready?x=1"} {
		if out, err := try(t, n, "curl", "-sS", "--max-time", "5", "http://"+ip+":8080"+path); err == nil {
			t.Errorf("%s in plaintext was answered %q", path, out)
		}
	}
	if out, _ := try(t, n, "curl", "-sS", "--max-time", "5", "http://"+ip+":8080/ready"); strings.Contains(out, "at /ready") {
		t.Errorf("a probe's answer has the application's words: %q", out)
	}
}
