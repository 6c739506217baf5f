package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/client-go/kubernetes"

	"hasp/api"
	"hasp/apiserver"
)

// TestKubectl runs the commands of testdata/kubectl/*.txtar, each file on a
// server of its own with a fake sandbox behind it. "[exit N]" stands after the
// output of a command that fails; "< FILE" gives it a file of the archive.
func TestKubectl(t *testing.T) {
	files, err := filepath.Glob("testdata/kubectl/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in testdata/kubectl: %v", err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECTL_EXTERNAL_DIFF", "")
	t.Setenv("HOME", t.TempDir()) // kubectl caches what it discovers there
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			transcript(t, filepath.Join(here, file))
		})
	}
}

func transcript(t *testing.T, file string) {
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	var want string
	commands := -1
	for i, f := range ar.Files {
		if f.Name == "commands" {
			commands, want = i, string(f.Data)
		} else if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if commands < 0 {
		t.Fatalf("%s: no section commands", file)
	}
	kubeconfig := startServer(t)
	var got strings.Builder
	for line := range strings.Lines(want) {
		if args, ok := strings.CutPrefix(line, "$ oc "); ok {
			got.WriteString(line)
			got.WriteString(oc(t, kubeconfig, strings.TrimSpace(args)))
		}
	}
	if *update && got.String() != want {
		ar.Files[commands].Data = []byte(got.String())
		if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
}

// oc runs one command line and returns what a terminal would show.
func oc(t *testing.T, kubeconfig, line string) string {
	line, file, ok := strings.Cut(line, " < ")
	if !ok {
		file = os.DevNull
	}
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	// "-f -" is the process's own standard input, whatever kubectl is handed.
	stdin := os.Stdin
	os.Stdin = in
	defer func() { os.Stdin = stdin }()
	var out screen
	status := Kubectl(t.Context(), "oc", kubeconfig, strings.Fields(line), in, &out, &out)
	if status != 0 {
		fmt.Fprintf(&out, "[exit %d]\n", status)
	}
	return steady(out.buf.String())
}

// screen is what both outputs write to, at the same time while attached.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

var (
	ages  = regexp.MustCompile(`\b\d+s\b *`)
	port  = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	dates = regexp.MustCompile(`[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}`)
)

// steady takes out of an output what differs from run to run.
func steady(s string) string {
	s = ages.ReplaceAllStringFunc(s, func(a string) string { return "0s" + strings.Repeat(" ", len(a)-2) })
	s = port.ReplaceAllString(s, "127.0.0.1:PORT")
	s = dates.ReplaceAllString(s, "DATE")
	var out strings.Builder
	for line := range strings.Lines(s) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return out.String()
}

// startServer serves until the test ends and returns the kubeconfig's path.
func startServer(t *testing.T, change ...func(*apiserver.Config)) string {
	crds, err := api.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	box := &fakeSandbox{}
	cfg := apiserver.Config{Dir: t.TempDir(), Listener: l, ExternalURL: "https://" + l.Addr().String(), CRDs: crds,
		Namespace: "microservices-demo", Node: "hasp", Streams: box, Validate: api.ValidateUnstructured, Warnings: api.WarningsUnstructured}
	for _, c := range change {
		c(&cfg)
	}
	s, err := apiserver.New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-served:
		t.Fatalf("the server ended: %v", err)
	}
	if box.client, err = kubernetes.NewForConfig(s.RESTConfig()); err != nil {
		t.Fatal(err)
	}
	boxed := make(chan struct{})
	go func() { defer close(boxed); box.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-boxed
		if err := <-served; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	return s.Kubeconfig()
}
