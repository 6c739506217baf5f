package server

import (
	"sync/atomic"
	"testing"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"hasp/mesh"
	"hasp/xds"
)

// Another control plane speaks for any node on one stream; what is not taken
// ends nothing, and with the stream all that it spoke for is gone.
func TestRelay(t *testing.T) {
	h := newHearing(t, Config{Relays: func(p spiffeid.ID) bool { return p == boards }})
	s := h.open(t.Context(), boards)
	gone, err := xds.EncodeReport(&mesh.Report{Node: node, Gone: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*accesslog.StreamAccessLogsMessage{
		report(t, "", 0), report(t, node, 1), report(t, "n/other", 2), report(t, "nonsense", 3), report(t, node, 13), report(t, node, 4), gone[0], gone[0], report(t, node, 5),
	} {
		if err := s.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	h.next(node + " true 1")
	h.next(node + " true 4")
	h.next(node + " is gone")
	h.next(node + " true 5")
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	h.next(node + " is gone")
}

// A workload may be deleted before the other control plane says that its proxy
// is gone.
func TestRelayOfOneDeleted(t *testing.T) {
	var deleted atomic.Bool
	h := newHearing(t, Config{Relays: func(spiffeid.ID) bool { return true }})
	h.mayReport = func() error {
		if deleted.Load() {
			return ErrNotFound
		}
		return nil
	}
	s := h.open(t.Context(), boards)
	if err := s.Send(report(t, node, 1)); err != nil {
		t.Fatal(err)
	}
	h.next(node + " true 1")
	deleted.Store(true)
	gone, err := xds.EncodeReport(&mesh.Report{Node: node, Gone: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(gone[0]); err != nil {
		t.Fatal(err)
	}
	h.next(node + " is gone")
}

// A proxy that reports here itself goes before what is passed on of it, and is
// asked to begin anew without an error.
func TestReportAnew(t *testing.T) {
	var direct atomic.Bool
	h := newHearing(t, Config{Relays: func(spiffeid.ID) bool { return !direct.Load() }})
	relay := h.open(t.Context(), boards)
	if err := relay.Send(report(t, node, 1)); err != nil {
		t.Fatal(err)
	}
	h.next(node + " true 1")
	direct.Store(true) // from here on the same identity is the proxy's
	own := h.open(t.Context(), boards)
	if err := own.Send(report(t, node, 2)); err != nil {
		t.Fatal(err)
	}
	h.next(node + " true 2")
	if err := relay.Send(report(t, node, 3)); err != nil {
		t.Fatal(err)
	}
	if err := relay.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := relay.RecvMsg(new(accesslog.StreamAccessLogsResponse)); err == nil {
		t.Error("a relay has no answer to wait for")
	}
	h.srv.ReportAnew(t.Context())
	h.next(node + " is gone")
	if err := own.RecvMsg(new(accesslog.StreamAccessLogsResponse)); err != nil {
		t.Errorf("asked to begin anew: %v", err)
	}
}
