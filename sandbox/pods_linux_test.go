package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// TestCurl is the lab's rogue: nothing but an image and arguments.
func TestCurl(t *testing.T) {
	need(t, "curl")
	w := newWorld(t, nil)
	rogue := simplePod("curl-boards-1")
	rogue.Spec.Containers[0].Image, rogue.Spec.Containers[0].Command = "docker.io/appropriate/curl:latest", nil
	rogue.Spec.Containers[0].Args = []string{"10.77.0.1:99/shareditems"}
	w.create(rogue)
	p := w.untilFinished("curl-boards-1")
	if code := p.Status.ContainerStatuses[0].State.Terminated.ExitCode; code != 7 {
		t.Errorf("exit code %d, want curl's 7", code)
	}
	if log := w.logs("curl-boards-1"); !strings.Contains(log, "% Total    % Received") || !strings.Contains(log, "curl: (7) Failed to connect") {
		t.Errorf("log %q", log)
	}
}

func TestUnknownImage(t *testing.T) {
	w := newWorld(t, nil)
	p := simplePod("stranger")
	p.Spec.Containers[0].Image = "nginx:1.27"
	w.create(p)
	const message = `no local program stands for image "nginx:1.27"; known images: appropriate/curl, local`
	got := w.untilFinished("stranger")
	end := got.Status.ContainerStatuses[0].State.Terminated
	if end == nil || end.Reason != imageUnknown || end.Message != message || end.ExitCode != 125 {
		t.Errorf("terminated %+v", end)
	}
	if log := w.logs("stranger"); log != "" {
		t.Errorf("log %q", log)
	}

	p = simplePod("patient")
	p.Spec.Containers[0].Image, p.Spec.RestartPolicy = "nginx", corev1.RestartPolicyAlways
	w.create(p)
	w.until("patient", "waiting", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodPending && len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting.Reason == imageUnknown
	})
	// Logs goes by the informer's copy, which comes after the API's.
	said := func() error {
		_, err := w.s.Logs(t.Context(), ns, "patient", nil)
		return err
	}
	w.eventually("the log says why the pod waits", func() bool {
		err := said()
		return apierrors.IsBadRequest(err) && strings.HasPrefix(err.Error(), `container "main" in pod "patient" is waiting to start: ImageUnknown: no local program`)
	}, func() string { return fmt.Sprint(said()) })
}

func TestCommandThatIsNotThere(t *testing.T) {
	w := newWorld(t, nil)
	w.create(simplePod("lost", "no-such-program"))
	p := w.untilFinished("lost")
	const message = `program "no-such-program" is in none of ` + DefaultPath
	if end := p.Status.ContainerStatuses[0].State.Terminated; end.Reason != "StartError" || end.Message != message {
		t.Errorf("terminated %+v", end)
	}
}

// buffer is an io.WriteCloser for Attach.
type buffer struct{ bytes.Buffer }

func (*buffer) Close() error { return nil }

func TestAttach(t *testing.T) {
	w := newWorld(t, nil)
	p := simplePod("echo", "sh", "-c", `printf 'no newline'; echo oops >&2; while read line; do echo "got $line"; done; echo bye`)
	p.Spec.Containers[0].Stdin, p.Spec.Containers[0].StdinOnce = true, true
	w.create(p)
	w.untilReady("echo")
	w.eventually("something was printed", func() bool { return strings.Contains(w.logs("echo"), "oops") }, func() string { return w.logs("echo") })
	var out, errs buffer
	if err := w.s.Attach(t.Context(), ns, "echo", "main", strings.NewReader("one\ntwo\n"), &out, &errs, false); err != nil {
		t.Fatal(err)
	}
	// The log that was read before is not told again.
	if got, want := out.String(), "got one\ngot two\nbye\n"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
	// Who comes after the end sees everything.
	w.untilFinished("echo")
	out.Reset()
	errs.Reset()
	if err := w.s.Attach(t.Context(), ns, "echo", "main", nil, &out, &errs, false); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "no newlinegot one\ngot two\nbye\n"; got != want {
		t.Errorf("stdout after the end %q, want %q", got, want)
	}
	if got := errs.String(); got != "oops\n" {
		t.Errorf("stderr %q", got)
	}
}

func TestLogsFollow(t *testing.T) {
	w := newWorld(t, nil)
	p := simplePod("talker", "sh", "-c", "echo one; read wait; echo two; echo three")
	p.Spec.Containers[0].Stdin = true
	w.create(p)
	w.untilReady("talker")
	r, err := w.s.Logs(t.Context(), ns, "talker", &corev1.PodLogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b := make([]byte, 4)
	if _, err := io.ReadFull(r, b); err != nil || string(b) != "one\n" {
		t.Fatalf("first %q, %v", b, err)
	}
	if err := w.s.Attach(t.Context(), ns, "talker", "", strings.NewReader("\n"), nil, nil, false); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "two\nthree\n" {
		t.Errorf("the rest %q, %v", rest, err)
	}
	tail := int64(2)
	r2, err := w.s.Logs(t.Context(), ns, "talker", &corev1.PodLogOptions{TailLines: &tail})
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	if b, _ := io.ReadAll(r2); string(b) != "two\nthree\n" {
		t.Errorf("tail %q", b)
	}
}

func TestRestarts(t *testing.T) {
	w := newWorld(t, nil)
	p := simplePod("phoenix", "sh", "-c", "echo run; exit 1")
	p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	w.create(p)
	got := w.until("phoenix", "restarted", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount >= 1
	})
	if last := got.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 1 || got.Status.Phase != corev1.PodRunning {
		t.Errorf("phase %s, last %+v", got.Status.Phase, last)
	}
	r, err := w.s.Logs(t.Context(), ns, "phoenix", &corev1.PodLogOptions{Previous: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, _ := io.ReadAll(r); string(b) != "run\n" {
		t.Errorf("previous log %q", b)
	}
}

func TestInitContainers(t *testing.T) {
	w := newWorld(t, nil)
	p := simplePod("ordered", "sh", "-c", "cat /made/for/this; echo $GREETING $(POD) from $(HOST)")
	p.Spec.Volumes = []corev1.Volume{{Name: "shared", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}}}}}
	mounts := []corev1.VolumeMount{{Name: "shared", MountPath: "/made/for"}, {Name: "config", MountPath: "/usr/share/hasp test/config", ReadOnly: true}}
	p.Spec.InitContainers = []corev1.Container{
		{Name: "first", Image: "local", Command: []string{"sh", "-c", "echo first >/made/for/this"}, VolumeMounts: mounts},
		{Name: "second", Image: "local", Command: []string{"sh", "-c", "cat '/usr/share/hasp test/config/key' >>/made/for/this"}, VolumeMounts: mounts},
	}
	p.Spec.Containers[0].VolumeMounts = mounts
	p.Spec.Containers[0].Env = []corev1.EnvVar{
		{Name: "GREETING", Value: "hello"},
		{Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		{Name: "HOST", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}, Key: "key"}}},
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "config", Namespace: ns}, Data: map[string]string{"key": "second\n"}}
	if _, err := w.client.CoreV1().ConfigMaps(ns).Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.create(p)
	got := w.untilFinished("ordered")
	if log, want := w.logs("ordered"), "first\nsecond\nhello ordered from second\n"; log != want {
		t.Errorf("log %q, want %q, status %+v", log, want, got.Status)
	}
}

func TestDeleteEndsAndForgets(t *testing.T) {
	w := newWorld(t, nil)
	p := simplePod("stubborn", "sh", "-c", "trap 'echo no' TERM; echo up; while :; do sleep 0.05; done")
	grace := int64(1)
	p.Spec.TerminationGracePeriodSeconds = &grace
	w.create(p)
	ready := w.untilReady("stubborn")
	dir := filepath.Join(w.cfg.StateDir, "pods", string(ready.UID))
	r, err := w.s.Logs(t.Context(), ns, "stubborn", &corev1.PodLogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	up := make([]byte, 3)
	if _, err := io.ReadFull(r, up); err != nil || string(up) != "up\n" {
		t.Fatalf("first line %q, %v", up, err)
	}
	begin := time.Now()
	if err := w.client.CoreV1().Pods(ns).Delete(t.Context(), "stubborn", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if took := time.Since(begin); err != nil || !strings.HasSuffix(string(b), "no\n") || took < time.Second || took > corev1.DefaultTerminationGracePeriodSeconds*time.Second/2 {
		t.Errorf("ended after %v with log %q, %v; want the second of grace, not all of the 30", took, b, err)
	}
	w.eventually("files are gone", func() bool { _, err := os.Stat(dir); return os.IsNotExist(err) }, func() string { return dir })
}

// TestAfterAnotherRun: pods of an earlier run of the sandbox.
func TestAfterAnotherRun(t *testing.T) {
	w := newWorld(t, nil)
	w.create(simplePod("finished", "echo", "done"))
	w.untilFinished("finished")
	w.create(simplePod("never", "sleep", "1000"))
	always := simplePod("always", "sh", "-c", "echo up; sleep 1000")
	always.Spec.RestartPolicy = corev1.RestartPolicyAlways
	w.create(always)
	w.untilReady("never")
	w.untilReady("always")
	w.stop()
	w.start()
	w.until("always", "runs again", func(p *corev1.Pod) bool { return isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	never := w.untilFinished("never")
	if never.Status.Phase != corev1.PodFailed || never.Status.Reason != "SandboxStopped" || never.Status.ContainerStatuses[0].State.Terminated == nil {
		t.Errorf("status %+v", never.Status)
	}
	if got := w.logs("finished"); got != "done\n" {
		t.Errorf("log of the finished pod %q", got)
	}
}

func TestStartingManyPods(t *testing.T) {
	w := newWorld(t, nil)
	begin := time.Now()
	const many = 30
	for i := range many {
		w.create(simplePod(fmt.Sprint("pod-", i), "sleep", "1000"))
	}
	for i := range many {
		w.untilReady(fmt.Sprint("pod-", i))
	}
	t.Logf("%d pods ready after %v", many, time.Since(begin))
}
