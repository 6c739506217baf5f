package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"hasp/cluster"
	"hasp/control"
	"hasp/local"
	"hasp/xds/server"
)

// TestStatusOnDemand: where a mesh is told on demand, each proxy's row says how much
// it was told, and nowhere else.
func TestStatusOnDemand(t *testing.T) {
	c := control.Status{
		Generation: 7, TrustDomain: "cluster.local", Services: 600, Workloads: 900, OnDemand: true,
		Proxies: []server.ProxyStatus{
			{Node: "shop/gateway", Identity: "G", Connected: true, AckedGeneration: 7},
			{Node: "shop/web", Identity: "W", Connected: true, AckedGeneration: 7, OnDemand: true, Services: 12, Peers: 3},
		},
	}
	printed := func() (onMachine, onCluster string) {
		var a, b bytes.Buffer
		if err := printStatus(&a, local.Status{Control: c}, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := printClusterStatus(&b, meshStatus{Replicas: []cluster.Status{{Pod: "istiod-1", Control: c}}}); err != nil {
			t.Fatal(err)
		}
		return a.String(), b.String()
	}
	has := func(got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("there is no\n%s\nin\n%s", want, got)
		}
	}
	machine, replicas := printed()
	has(machine, "600 services, 900 workloads, told on demand\n")
	has(machine, `
PROXY          IDENTITY   ACKED   TOLD                    STATE
shop/gateway   G          7       all                     up to date
shop/web       W          7       12 addresses, 3 peers   up to date
`)
	has(replicas, "600 services, 900 workloads, told on demand;\n")
	has(replicas, `
PROXY          IDENTITY   REPLICA    ACKED   TOLD                    STATE
shop/gateway   G          istiod-1   7       all                     up to date
shop/web       W          istiod-1   7       12 addresses, 3 peers   up to date
`)
	c.OnDemand = false
	machine, replicas = printed()
	has(machine, "\nPROXY          IDENTITY   ACKED   STATE\n")
	has(replicas, "\nPROXY          IDENTITY   REPLICA    ACKED   STATE\n")
}
