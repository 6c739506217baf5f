package sandbox

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestPodRunsOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.create(simplePod("hello", "sh", "-c", "echo out; echo err >&2; exit 3"))
	p := w.untilFinished("hello")
	end := p.Status.ContainerStatuses[0].State.Terminated
	if p.Status.Phase != corev1.PodFailed || end == nil || end.ExitCode != 3 || end.Reason != "Error" {
		t.Errorf("phase %s, terminated %+v, want Failed with exit code 3 for Error", p.Status.Phase, end)
	}
	if got := w.logs("hello"); !strings.Contains(got, "out\n") || !strings.Contains(got, "err\n") || len(got) != len("out\nerr\n") {
		t.Errorf("logs %q", got)
	}
}
