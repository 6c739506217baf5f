package cluster

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hasp/control"
	"hasp/mesh"
	"hasp/world"
)

// The other replicas are asked, this one and pods that only look like one are
// not; who does not answer is behind, and after a while not waited for.
func TestOthers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/progress" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.Write([]byte(`{"objects":"abc","behind":false,"refused":["shop/web-1 refused it: no"]}`))
	}))
	defer srv.Close()
	there := srv.Listener.Addr().(*net.TCPAddr).AddrPort()
	replica := func(namespace, name, app string, addr netip.Addr) *mesh.Workload {
		return &mesh.Workload{Namespace: namespace, Name: name, Labels: map[string]string{"app": app}, Addresses: []netip.Addr{addr}, Ready: true}
	}
	nobody := netip.MustParseAddr("127.0.0.77") // nothing listens there on that port
	now := time.Now()
	w := &world.World{Workloads: []*mesh.Workload{
		replica(Namespace, "istiod-self", "istiod", nobody),
		replica(Namespace, "istiod-there", "istiod", there.Addr()),
		replica("shop", "istiod-false", "istiod", nobody),
		replica(Namespace, "gateway", "istio-ingressgateway", nobody),
	}}
	o := &others{self: "istiod-self", port: int(there.Port()), world: func() *world.World { return w }, log: slog.New(slog.DiscardHandler),
		now: func() time.Time { return now }}
	answered := control.Progress{Objects: "abc", Refused: []string{"shop/web-1 refused it: no"}}
	check := func(what string, want ...control.Progress) {
		t.Helper()
		if diff := cmp.Diff(want, o.ask(context.Background())); diff != "" {
			t.Errorf("%s: -want +got\n%s", what, diff)
		}
	}
	check("one answers", answered)
	w.Workloads = append(w.Workloads, replica(Namespace, "istiod-silent", "istiod", nobody))
	check("one is silent", answered, control.Progress{Behind: true})
	now = now.Add(lost + time.Second)
	check("one is lost", answered)
}
