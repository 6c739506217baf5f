package sandbox

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func execProbe(command ...string) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: command}}, PeriodSeconds: 1, FailureThreshold: 1}
}

func TestReadinessComesAndGoes(t *testing.T) {
	w := newWorld(t, nil)
	p := simplePod("moody", "sh", "-c", "touch here; read x; rm here; read x; touch here; read x")
	p.Spec.Containers[0].Stdin = true
	p.Spec.Containers[0].ReadinessProbe = execProbe("test", "-e", podDir+"/here")
	w.create(p)
	w.untilReady("moody")
	write := func() {
		t.Helper()
		got, err := w.client.CoreV1().Pods(ns).Get(t.Context(), "moody", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w.s.pods.mu.Lock()
		c := w.s.pods.byUID[got.UID].container("main")
		w.s.pods.mu.Unlock()
		c.feed(strings.NewReader("\n"))
	}
	write()
	w.until("moody", "not ready", func(p *corev1.Pod) bool { return !isReady(p) && p.Status.Phase == corev1.PodRunning })
	write()
	w.untilReady("moody")
}

func TestLivenessKills(t *testing.T) {
	w := newWorld(t, nil)
	p := simplePod("ill", "sleep", "1000")
	p.Spec.Containers[0].LivenessProbe = execProbe("false")
	w.create(p)
	end := w.untilFinished("ill").Status.ContainerStatuses[0].State.Terminated
	if end.ExitCode != 137 || end.Message != "liveness probe: the command ended with 1" {
		t.Errorf("terminated %+v", end)
	}
}

func TestStartupProbe(t *testing.T) {
	w := newWorld(t, nil)
	p := simplePod("slow", "sh", "-c", "sleep 0.2; touch up; exec sleep 1000")
	p.Spec.Containers[0].StartupProbe = execProbe("test", "-e", podDir+"/up")
	p.Spec.Containers[0].StartupProbe.FailureThreshold = 30
	p.Spec.Containers[0].LivenessProbe = execProbe("test", "-e", podDir+"/up")
	w.create(p)
	got := w.untilReady("slow")
	if s := got.Status.ContainerStatuses[0]; s.RestartCount != 0 || !*s.Started {
		t.Errorf("status %+v", s)
	}
	p = simplePod("never-up", "sleep", "1000")
	p.Spec.Containers[0].StartupProbe = execProbe("false")
	w.create(p)
	end := w.untilFinished("never-up").Status.ContainerStatuses[0].State.Terminated
	if end.Message != "startup probe: the command ended with 1" {
		t.Errorf("terminated %+v", end)
	}
}

func TestProbeOfAnUnknownPort(t *testing.T) {
	w := newWorld(t, nil)
	p := simplePod("portless", "sleep", "1000")
	p.Spec.Containers[0].LivenessProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1,
		ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("http")}}}
	w.create(p)
	end := w.untilFinished("portless").Status.ContainerStatuses[0].State.Terminated
	if end.Message != `liveness probe: the container has no port "http"` {
		t.Errorf("terminated %+v", end)
	}
}
