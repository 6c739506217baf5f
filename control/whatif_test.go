package control_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hasp/truth"
)

func TestWhatIf(t *testing.T) {
	plain := strings.Replace(strings.Replace(pod("curl", "10.0.0.9"), `, annotations: {sidecar.istio.io/inject: "true"}`, "", 1), "app: web", "app: curl", 1)
	p := start(t, pod("web-1", "10.0.0.1"), plain)
	srv := views(t, p)
	if err := p.Report("shop/web-1", webID, report(1)); err != nil {
		t.Fatal(err)
	}
	ask := func(query, manifests string) *http.Response {
		resp, err := srv.Client().Post(srv.URL+"/what-if?"+query, "application/yaml", strings.NewReader(manifests))
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	const strict = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default}, spec: {mtls: {mode: STRICT}}}"
	var a truth.Answer
	decode(t, ask("namespace=shop", strict), &a)
	if diff := cmp.Diff([]string{"PeerAuthentication shop/default created"}, a.Objects); diff != "" {
		t.Error(diff)
	}
	if len(a.Effects) != 1 || a.Effects[0].What != truth.Cut || a.Effects[0].Source.Workload != "shop/curl" || a.Generation != 1 {
		t.Errorf("the answer is %+v", a)
	}
	if w := p.World(); len(w.PeerAuthentications) != 0 || w.Generation != 1 {
		t.Error("a question changed the mesh")
	}

	decode(t, ask("", strict), &a)
	if a.Objects[0] != "PeerAuthentication default/default created" || len(a.Effects) != 0 {
		t.Errorf("in another namespace: %+v", a)
	}
	decode(t, ask("namespace=shop&delete=true", strict), &a)
	if a.Objects[0] != "PeerAuthentication shop/default is not there" {
		t.Errorf("of a deletion: %+v", a)
	}

	for _, c := range []struct {
		manifests string
		status    int
		want      string
	}{
		{"", 400, "there is no object"},
		{strings.Replace(strict, "STRICT", "STRICKT", 1), 400, "-:1: "},
		{strict + strings.Repeat("#", 5<<20), 413, "longer than 4 MiB"},
	} {
		resp := ask("", c.manifests)
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.want) {
			t.Errorf("%.20q: %d %s", c.manifests, resp.StatusCode, body)
		}
	}
}
