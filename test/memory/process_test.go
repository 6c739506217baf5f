package memory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"hasp/mesh"
	"hasp/test/meshtest"
)

// sidecar is a running hasp-proxy.
type sidecar struct {
	name  string
	pid   int
	admin *http.Client // in its namespace
	said  *said
}

// start runs a sidecar in a namespace until the test ends, and waits until it
// serves.
func start(t *testing.T, ns netns.NsHandle, boot mesh.Bootstrap, args ...string) *sidecar {
	t.Helper()
	program := filepath.Join(meshtest.Root(), "bin", "hasp-proxy")
	if _, err := os.Stat(program); err != nil {
		t.Fatal("bin/hasp-proxy is not there: make build")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := &sidecar{name: boot.Node, said: new(said)}
	cmd := exec.Command(program, append([]string{"--access-log=off"}, args...)...)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{r}, s.said
	in(ns, func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", s.name, s.said)
		}
	})
	if err := json.NewEncoder(w).Encode(boot); err != nil {
		t.Fatal(err)
	}
	w.Close()
	s.admin = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		Dial: func(network, addr string) (c net.Conn, err error) {
			in(ns, func() { c, err = net.Dial(network, addr) })
			return c, err
		},
	}}
	meshtest.Eventually(t, 20*time.Second, s.name+" serves", func() bool {
		_, err := s.ask("/ready")
		return err == nil
	})
	return s
}

// ask for an admin page.
func (s *sidecar) ask(page string) ([]byte, error) {
	resp, err := s.admin.Get("http://127.0.0.1:15000" + page)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", page, resp.Status, body)
	}
	return body, err
}

// memory of a process, in bytes.
type memory struct{ RSS, Anonymous, File int }

func (m memory) String() string {
	return fmt.Sprintf("%s (its own %s, of its program %s)", mib(m.RSS), mib(m.Anonymous), mib(m.File))
}

func mib(bytes int) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// memory as the kernel counts it.
func (s *sidecar) memory(t *testing.T) memory {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	var m memory
	for line := range strings.Lines(string(status)) {
		word := strings.Fields(line)
		to := map[string]*int{"VmRSS:": &m.RSS, "RssAnon:": &m.Anonymous, "RssFile:": &m.File}[word[0]]
		if to == nil {
			continue
		}
		if *to, err = strconv.Atoi(word[1]); err != nil {
			t.Fatal(err)
		}
		*to *= 1024
	}
	return m
}

var heapAlloc = regexp.MustCompile(`(?m)^# HeapAlloc = ([0-9]+)$`)

// heap is what is live in the heap.
func (s *sidecar) heap(t *testing.T) int {
	t.Helper()
	page, err := s.ask("/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		t.Fatal(err)
	}
	m := heapAlloc.FindSubmatch(page)
	if m == nil {
		t.Fatalf("%s does not say how large its heap is:\n%.200s", s.name, page)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// settled is the memory of sidecars that have nothing to do, once they have given
// back what they do not need and it does not change any more. A sidecar looks
// every five seconds whether it is quiet.
func settled(t *testing.T, sidecars ...*sidecar) []memory {
	t.Helper()
	const same, patience = 5, 25 // looks here
	now := make([]memory, len(sidecars))
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	for n, looks := 0, 0; n < same && looks < patience; looks++ {
		<-tick.C
		n++
		for i, s := range sidecars {
			before := now[i].RSS
			if now[i] = s.memory(t); max(before, now[i].RSS)-min(before, now[i].RSS) > now[i].RSS/32 {
				n = 0
			}
		}
	}
	return now
}

// said is what a program wrote.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
