package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	admission "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"hasp/mesh"
	"hasp/world"
)

const (
	goodRule  = `{"apiVersion":"networking.istio.io/v1","kind":"DestinationRule","metadata":{"name":"r","namespace":"shop"},"spec":{"host":"boards"}}`
	badRule   = `{"apiVersion":"networking.istio.io/v1","kind":"DestinationRule","metadata":{"name":"r","namespace":"shop"},"spec":{}}`
	quietRule = `{"apiVersion":"networking.istio.io/v1","kind":"DestinationRule","metadata":{"name":"r","namespace":"shop"},"spec":{"host":"boards","trafficPolicy":{"tls":{}}}}`
)

func reviewOf(operation, object, old string) string {
	if old == "" {
		old = "null"
	}
	return fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1",
		"kind":{"group":"networking.istio.io","version":"v1","kind":"DestinationRule"},"name":"r","namespace":"shop",
		"operation":%q,"object":%s,"oldObject":%s}}`, operation, object, old)
}

// told is what is foretold of everything.
func told(_ context.Context, u *unstructured.Unstructured, _ bool) []string {
	return []string{"what-if: " + u.GetName()}
}

func dryRun(review string) string {
	return strings.Replace(review, `"operation"`, `"dryRun":true,"operation"`, 1)
}

func post(body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	validate(told, func(netip.Addr) bool { return false }).ServeHTTP(w, httptest.NewRequest("POST", "/validate", strings.NewReader(body)))
	return w
}

func TestValidate(t *testing.T) {
	const refused = `DestinationRule.networking.istio.io "r" is invalid: spec.host: Required value`
	for _, tt := range []struct {
		name, body string
		allowed    bool
		message    string // starts with
		warnings   int
	}{
		{"good", reviewOf("CREATE", goodRule, ""), true, "", 0},
		{"bad", reviewOf("CREATE", badRule, ""), false, refused, 0},
		{"made bad", reviewOf("UPDATE", badRule, goodRule), false, refused, 0},
		{"was bad before the rule", reviewOf("UPDATE", badRule, badRule), true, "", 0},
		{"deleted", reviewOf("DELETE", "null", badRule), true, "", 0},
		{"a dry run", dryRun(reviewOf("CREATE", goodRule, "")), true, "", 1},
		{"a dry run of what is warned of", dryRun(reviewOf("CREATE", quietRule, "")), true, "", 2},
		{"a dry run of what is refused", dryRun(reviewOf("CREATE", badRule, "")), false, refused, 0},
		{"a dry run that changes nothing", dryRun(reviewOf("UPDATE", goodRule, goodRule)), true, "", 0},
		{"no dry run", strings.Replace(dryRun(reviewOf("CREATE", goodRule, "")), "true", "false", 1), true, "", 0},
		{"warned of", reviewOf("CREATE", quietRule, ""), true, "", 1},
		{"no object", reviewOf("CREATE", `{"a":1}`, ""), false, "read the object: Object 'Kind' is missing", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := post(tt.body)
			var got admission.AdmissionReview
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Response == nil {
				t.Fatalf("%d %s: %v", w.Code, w.Body, err)
			}
			if r := got.Response; r.UID != "u1" || r.Allowed != tt.allowed || len(r.Warnings) != tt.warnings {
				t.Errorf("%+v", r)
			}
			message := ""
			if got.Response.Result != nil {
				message = got.Response.Result.Message
			}
			if (message == "") != (tt.message == "") || !strings.HasPrefix(message, tt.message) {
				t.Errorf("got %q\nwant %q", message, tt.message)
			}
		})
	}
}

// Who calls whom is told to an API server, not to a pod that reaches the port.
func TestForetoldToNoPod(t *testing.T) {
	at := func(namespace, address string, host bool) *mesh.Workload {
		return &mesh.Workload{Namespace: namespace, Name: "p", Addresses: []netip.Addr{netip.MustParseAddr(address)}, HostNetwork: host}
	}
	w := &world.World{Workloads: []*mesh.Workload{
		at("shop", "10.244.0.5", false), at("kube-system", "10.244.0.6", false), at("monitoring", "192.0.2.10", true),
	}}
	for _, tt := range []struct {
		name, from string
		w          *world.World
		told       bool
	}{
		{"a pod", "10.244.0.5:40000", w, false},
		{"a pod, by a socket of both families", "[::ffff:10.244.0.5]:40000", w, false},
		{"the API server's tunnel", "10.244.0.6:40000", w, true},
		{"the API server of a node", "192.0.2.10:40000", w, true},
		{"the API server of no node", "192.0.2.11:40000", w, true},
		{"before there is a world", "192.0.2.11:40000", nil, false},
		{"from nowhere", "@", w, false},
	} {
		out, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/validate", strings.NewReader(dryRun(reviewOf("CREATE", goodRule, ""))))
		r.RemoteAddr = tt.from
		validate(told, func(a netip.Addr) bool { return atPod(tt.w, a) }).ServeHTTP(out, r)
		var review admission.AdmissionReview
		if err := json.Unmarshal(out.Body.Bytes(), &review); err != nil || !review.Response.Allowed {
			t.Fatalf("%s: %v, %s", tt.name, err, out.Body)
		}
		if got := len(review.Response.Warnings) > 0; got != tt.told {
			t.Errorf("%s: told is %v, want %v", tt.name, got, tt.told)
		}
	}
}

func TestValidateRefusesWhatIsNoReview(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		code       int
		want       string
	}{
		{"no JSON", "{", http.StatusBadRequest, "read the review: unexpected end of JSON input\n"},
		{"another kind", `{"apiVersion":"v1","kind":"Pod"}`, http.StatusBadRequest,
			"the review is a /v1, Kind=Pod, want admission.k8s.io/v1, Kind=AdmissionReview\n"},
		{"no request", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, http.StatusBadRequest, "the review has no request\n"},
		{"too large", strings.Repeat(" ", maxReview+1), http.StatusRequestEntityTooLarge, "read the review: http: request body too large\n"},
	} {
		if w := post(tt.body); w.Code != tt.code || w.Body.String() != tt.want {
			t.Errorf("%s: %d %q, want %d %q", tt.name, w.Code, w.Body, tt.code, tt.want)
		}
	}
}

// Whatever is posted, the answer is one the API server understands: it has the
// question's UID, and a refusal says why.
func FuzzReviewed(f *testing.F) {
	f.Add([]byte(reviewOf("CREATE", goodRule, "")))
	f.Add([]byte(reviewOf("UPDATE", badRule, goodRule)))
	f.Add([]byte(reviewOf("CREATE", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"istio"},"data":{"mesh":"a: b"}}`, "")))
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		review, err := reviewed(t.Context(), b, told)
		if err != nil {
			return
		}
		r := review.Response
		if r == nil || !r.Allowed && (r.Result == nil || r.Result.Message == "") {
			t.Errorf("an answer without a reason: %+v", r)
		}
		if _, err := json.Marshal(review); err != nil {
			t.Error(err)
		}
	})
}
