package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClusterStatus: one row a proxy, from where it is connected; each replica
// counts its own generations.
func TestClusterStatus(t *testing.T) {
	var s meshStatus
	err := json.Unmarshal([]byte(`{"api": "https://c:6443", "replicas": [
		{"pod": "istiod-1", "leader": "istiod-2", "authority": "Secret istio-system/cacerts", "control": {
			"generation": 7, "trustDomain": "cluster.local", "autoMtls": true, "services": 2, "workloads": 3, "unmeshed": ["shop/old"],
			"proxies": [
				{"node": "shop/web", "identity": "W", "connected": true, "ackedGeneration": 7},
				{"node": "shop/moved", "identity": "M", "ackedGeneration": 2},
				{"node": "shop/gone", "identity": "G", "ackedGeneration": 6}]}},
		{"pod": "istiod-2", "leader": "istiod-2", "authority": "Secret istio-system/cacerts", "control": {
			"generation": 3,
			"proxies": [
				{"node": "shop/moved", "identity": "M", "connected": true, "ackedGeneration": 2},
				{"node": "shop/gone", "identity": "G", "ackedGeneration": 1},
				{"node": "shop/bad", "identity": "B", "connected": true, "ackedGeneration": 2, "nack": {"generation": 3, "message": "no"}}]}}],
		"silent": ["ask pod istio-system/istiod-3: refused"]}`), &s)
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.Replicas {
		s.Replicas[i].Started = time.Date(2026, 11, 24, 18, 0, 0, 0, time.Local)
	}
	var out bytes.Buffer
	if err := printClusterStatus(&out, s); err != nil {
		t.Fatal(err)
	}
	const want = `The mesh of https://c:6443: trust domain cluster.local, auto mTLS on, 2 services, 3 workloads;
Secret istio-system/cacerts signs.

REPLICA    STARTED               LEADS   GENERATION   PROXIES
istiod-1   2026-11-24 18:00:00   -       7            1
istiod-2   2026-11-24 18:00:00   yes     3            2

PROXY        IDENTITY   REPLICA    ACKED   STATE
shop/bad     B          istiod-2   2       refused generation 3: no
shop/gone    G          istiod-1   6       not connected
shop/moved   M          istiod-2   2       behind
shop/web     W          istiod-1   7       up to date

Did not answer:
  ask pod istio-system/istiod-3: refused

Outside the mesh:
  shop/old
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}

// TestWhichCluster: flags before KUBECONFIG before ~/.kube/config, and words
// when there is none.
func TestWhichCluster(t *testing.T) {
	dir := t.TempDir()
	write := func(name, server string) string {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		text := "apiVersion: v1\nkind: Config\ncurrent-context: one\nclusters:\n- {name: c, cluster: {server: 'https://" + server + "'}}\n- {name: d, cluster: {server: 'https://" + server + "-two'}}\n" +
			"contexts:\n- {name: one, context: {cluster: c}}\n- {name: two, context: {cluster: d}}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("home/.kube/config", "home")
	flag, variable := write("flag", "flag"), write("variable", "variable")
	home := "HOME=" + filepath.Join(dir, "home")
	for _, c := range []struct {
		name, kubeconfig, environ string
		flags                     clusterFlags
		want                      string
	}{
		{"flag", variable, home, clusterFlags{kubeconfig: flag}, "https://flag"},
		{"KUBECONFIG", variable, home, clusterFlags{}, "https://variable"},
		{"several", filepath.Join(dir, "none") + ":" + variable, home, clusterFlags{}, "https://variable"},
		{"context", variable, home, clusterFlags{context: "two"}, "https://variable-two"},
		{"home", "", home, clusterFlags{}, "https://home"},
		{"none", "", "HOME=/nowhere", clusterFlags{}, "no cluster is named: set KUBECONFIG or give --kubeconfig"},
		{"a context that is not there", variable, home, clusterFlags{context: "three"}, `context "three" does not exist`},
		{"a file that is not there", "", home, clusterFlags{kubeconfig: "/nowhere/config"}, "--kubeconfig: stat /nowhere/config: no such file or directory"},
	} {
		rc, err := c.flags.config(&env{Config: Config{Kubeconfig: c.kubeconfig, Environ: []string{c.environ}, Dir: dir}})
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = rc.Host
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestInstallNeedsACluster: the mesh on this machine is none to install on.
func TestInstallNeedsACluster(t *testing.T) {
	e := &env{Config: Config{Dir: "/", Kubeconfig: "/state/api/kubeconfig"}, state: "/state"}
	if e.foreignKubeconfig() {
		t.Fatal("the mesh's own kubeconfig is taken for a cluster's")
	}
	_, _, err := (&clusterFlags{}).deployment(e)
	if err == nil || err.Error() != "KUBECONFIG names the mesh on this machine, which needs no installation: give the cluster's with --kubeconfig" {
		t.Error(err)
	}
}
