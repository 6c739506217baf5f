package main

import (
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// The sidecar runs once a workload, so it stays small: nothing of Kubernetes'
// client, server or command line, and no etcd. The test binary links what the
// command links, and knows which modules that is.
func TestStaysSmall(t *testing.T) {
	info, ok := debug.ReadBuildInfo()
	if !ok || len(info.Deps) == 0 {
		t.Fatal("this binary does not know its modules")
	}
	var linked []string
	for _, d := range info.Deps {
		linked = append(linked, d.Path)
	}
	if !slices.Contains(linked, "google.golang.org/grpc") {
		t.Fatalf("grpc is not among the modules, so this test sees nothing: %s", linked)
	}
	for _, path := range linked {
		for _, banned := range []string{"k8s.io/", "sigs.k8s.io/", "go.etcd.io/", "istio.io/client-go", "github.com/spf13/cobra"} {
			if strings.HasPrefix(path+"/", banned) {
				t.Errorf("the proxy links %s", path)
			}
		}
	}
}
