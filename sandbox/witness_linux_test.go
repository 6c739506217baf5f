package sandbox

import (
	"strings"
	"testing"

	"hasp/api"
	"hasp/capture"
)

// A pod that is captured says so, in both families, with the count of what went
// which way; one whose ruleset somebody took away is found out.
func TestCaptured(t *testing.T) {
	w := newWorld(t, meshed(t, nil))
	out := w.server("outside", "outside", 80)
	p := w.serverPod("boards", "boards", 8080)
	p.Annotations = map[string]string{api.InjectKey: "true", api.ExcludeOutboundPortsKey: "81"}
	w.create(p)
	in := w.untilReady("boards")
	w.say("outside", in.Status.PodIP+":8080")
	w.say("outside", "["+in.Status.PodIPs[1].IP+"]:8080")
	w.say("boards", out.Status.PodIP+":80")
	w.say("boards", out.Status.PodIP+":81") // past the sidecar

	got, err := w.s.Captured(t.Context(), ns, "boards")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Tried) != 2 || got.Tried[0].Err != nil || got.Tried[1].Err != nil {
		t.Errorf("tried from inside: %+v", got.Tried)
	}
	if got.In != 2 || got.Out != 3 {
		t.Errorf("%d connections in and %d out, want 2 and 3: one said, two tried", got.In, got.Out)
	}
	if len(got.Past) != 1 || got.Past[0] != (Passed{"tcp dport 81 counter return", 1}) {
		t.Errorf("past the sidecar: %+v", got.Past)
	}

	if _, err := w.s.Captured(t.Context(), ns, "nobody"); err == nil {
		t.Error("there is no such pod")
	}
	if err := capture.Remove(w.network("boards").descriptor()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.Captured(t.Context(), ns, "boards"); err == nil || !strings.Contains(err.Error(), "capture") {
		t.Errorf("without its ruleset: %v", err)
	}
}
