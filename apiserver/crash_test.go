package apiserver_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"hasp/apiserver"
)

// serveForever is the child process of TestCrash: it says when it is ready and
// serves until it is killed.
func serveForever(dir string) {
	cfg, err := config(dir)
	if err == nil {
		var s *apiserver.Server
		s, _, err = run(cfg)
		if err == nil {
			fmt.Println(s.Kubeconfig())
			select {}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// child starts a server as its own process and waits until it is ready.
func child(t *testing.T, dir string) (*exec.Cmd, *kubernetes.Clientset) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "APISERVER_TEST_SERVE="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	path, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child did not become ready: %v", err)
	}
	go io.Copy(io.Discard, out) // ends with the child
	rc, err := clientcmd.BuildConfigFromFlags("", path[:len(path)-1])
	if err != nil {
		t.Fatal(err)
	}
	rc.QPS = -1
	c, err := kubernetes.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, c
}

// A server killed in the middle of many writes has every one it acknowledged,
// as acknowledged, when it is started again.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]string{} // name: resourceVersion
	for round := range 3 {
		cmd, c := child(t, dir)
		missing(t, c, acknowledged)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("r%d-w%d-%d", round, w, i)}, Data: map[string]string{"i": fmt.Sprint(i)}}
					got, err := c.CoreV1().ConfigMaps("default").Create(context.Background(), cm, metav1.CreateOptions{})
					if err != nil {
						return // killed
					}
					mu.Lock()
					acknowledged[cm.Name] = got.ResourceVersion
					if len(acknowledged) == 200*(round+1) {
						cmd.Process.Kill()
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		cmd.Wait()
	}
	_, c := child(t, dir)
	missing(t, c, acknowledged)
	t.Log(len(acknowledged), "objects acknowledged")
}

func missing(t *testing.T, c *kubernetes.Clientset, want map[string]string) {
	t.Helper()
	l, err := c.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, i := range l.Items {
		got[i.Name] = i.ResourceVersion
	}
	for name, rv := range want {
		if got[name] != rv {
			t.Errorf("%s: acknowledged at revision %s, stored: %q", name, rv, got[name])
		}
	}
}

// The kill leaves sockets and a lock file behind; neither stops the next start,
// and what is not running is not in the way of a second one.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	cmd, _ := child(t, dir)
	cfg, err := config(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer cfg.Listener.Close()
	start := time.Now()
	_, err = apiserver.New(t.Context(), cfg)
	want := fmt.Sprintf("apiserver: the data directory is in use: process %d holds %s/lock", cmd.Process.Pid, dir)
	if err == nil || err.Error() != want {
		t.Errorf("New beside a running server: got %v, want %s", err, want)
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("New took %v to say so", d)
	}
	if err := apiserver.Restore(t.Context(), dir, "nothing"); err == nil {
		t.Error("Restore beside a running server succeeded")
	}
	cmd.Process.Kill()
	cmd.Wait()
	s, err := apiserver.New(t.Context(), cfg)
	if err != nil {
		t.Fatalf("New after the holder was killed: %v", err)
	}
	s.Close()
	s.Close()
}
