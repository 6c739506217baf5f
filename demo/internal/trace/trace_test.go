package trace_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sharedboards/internal/trace"
)

func TestForward(t *testing.T) {
	in := http.Header{}
	for _, name := range []string{
		"traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid",
		"x-b3-sampled", "x-b3-flags", "x-request-id", "x-ot-span-context", "user-agent",
	} {
		in.Set(name, "value of "+name)
	}
	in.Add("tracestate", "second line")
	want := in.Clone()
	in.Set("Cookie", "not passed on")
	in.Set("Authorization", "not passed on")

	out := http.Header{}
	trace.Forward(out, in)
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	out["Traceparent"][0] = "changed"
	if in.Get("Traceparent") == "changed" {
		t.Error("the two requests share memory")
	}
}
