package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	cniversion "github.com/containernetworking/cni/pkg/version"
)

const inside = "HASP_CNI_TEST_INSIDE"

// TestMain makes three programs of this one: by its name the plugin itself, or
// the network plugin that comes before it in the chain; else the tests, which run
// in a user and network namespace of their own, so that they need no privilege
// and cannot touch the host.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "hasp-cni":
		main()
		return
	case "first":
		skel.PluginMainFuncs(first, cniversion.All, "first")
		return
	}
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		os.Exit(m.Run()) // tests that need a namespace say so
	}
	if err := cmd.Wait(); err != nil {
		os.Exit(1)
	}
}

// first gives a pod the address that the next plugin must hand on.
var first = skel.CNIFuncs{
	Add: func(args *skel.CmdArgs) error {
		address, err := types.ParseCIDR("10.9.0.2/24")
		if err != nil {
			return err
		}
		r := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, IPs: []*types100.IPConfig{{Address: *address}}}
		return types.PrintResult(r, "1.0.0")
	},
	Check: func(*skel.CmdArgs) error { return nil },
	Del:   func(*skel.CmdArgs) error { return nil },
}

func TestFlags(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"", "hasp-cni: a command is needed: agent, ready, install, uninstall or version"},
		{"agent", "hasp-cni: --node or NODE_NAME is needed, as in --node worker-1"},
		{"ready now", `hasp-cni: unexpected argument "now"`},
		{"agent --log-level loud", `invalid value "loud" for flag -log-level`},
		{"--help", "hasp-cni agent --node worker-1"},
	} {
		var out strings.Builder
		if _, err := parse(strings.Fields(tc.args), "", &out); err == nil || !strings.Contains(out.String(), tc.want) {
			t.Errorf("%q: %v, %s", tc.args, err, &out)
		}
	}
	o, err := parse([]string{"agent", "--chained=false", "--exclude-namespaces=a, b,"}, "node-1", &strings.Builder{})
	if got := fmt.Sprintln(o.node, o.install.Chained, o.install.Settings.ExcludeNamespaces); err != nil || got != "node-1 false [a b]\n" {
		t.Errorf("%s, %v", got, err)
	}
	o.command = "dance"
	if err := run(t.Context(), o, nil, nil); err == nil || err.Error() != `no such command: "dance" (agent, ready, install, uninstall or version)` {
		t.Errorf("got %v", err)
	}
}
