package cni

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var settings = Settings{Socket: "/run/s", ExcludeNamespaces: []string{"kube-system"}}

const ours = `{"type":"hasp-cni","socket":"/run/s","excludeNamespaces":["kube-system"]}`

func TestJoinAndLeave(t *testing.T) {
	list := func(plugins ...string) string {
		return `{"cniVersion":"1.0.0","name":"pods","x":12345678901234567890,"plugins":[` + strings.Join(plugins, ",") + `]}`
	}
	const bridge, portmap = `{"type":"bridge","mtu":1500}`, `{"type":"portmap","capabilities":{"portMappings":true}}`
	for _, tc := range []struct{ name, is, joined, left string }{
		{"at the end", list(bridge, portmap), list(bridge, portmap, ours), list(bridge, portmap)},
		{"there already", list(bridge, ours), list(bridge, ours), list(bridge)},
		{"of an older agent", list(bridge, `{"type":"hasp-cni","socket":"/old"}`, portmap), list(bridge, ours, portmap), list(bridge, portmap)},
		{"twice", list(bridge, ours, ours), list(bridge, ours), list(bridge)},
	} {
		joined, err := join([]byte(tc.is), settings)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(plain(t, joined), plain(t, []byte(tc.joined))); diff != "" {
			t.Errorf("%s: joined (-got +want):\n%s", tc.name, diff)
		}
		if again, err := join(joined, settings); err != nil || string(again) != string(joined) {
			t.Errorf("%s: joined twice: %s, %v", tc.name, again, err)
		}
		left, err := leave([]byte(tc.is))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(plain(t, left), plain(t, []byte(tc.left))); diff != "" {
			t.Errorf("%s: left (-got +want):\n%s", tc.name, diff)
		}
		if again, err := leave(left); err != nil || string(again) != string(left) {
			t.Errorf("%s: left twice: %s, %v", tc.name, again, err)
		}
	}
}

// plain is JSON without a layout; numbers keep their digits.
func plain(t *testing.T, b []byte) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return v
}

func TestJoinRefuses(t *testing.T) {
	for in, want := range map[string]string{
		``:                                      "EOF",
		`[]`:                                    "json: cannot unmarshal array into Go value of type cni.list",
		`{"cniVersion":"1.0.0"}`:                "plugins: a list with a plugin is needed",
		`{"cniVersion":"1.0.0","plugins":[{}]}`: "plugins[0]: a plugin with a type is needed",
		`{"cniVersion":"1.0.0","plugins":[{"type":"a"}]} {}`:   "more than one JSON value",
		`{"cniVersion":"0.2.0","plugins":[{"type":"bridge"}]}`: `cniVersion "0.2.0" hands no results from plugin to plugin; 0.3.0 is the first that does`,
		`{"plugins":[{"type":"bridge"}]}`:                      `cniVersion "" hands no results from plugin to plugin; 0.3.0 is the first that does`,
	} {
		if _, err := join([]byte(in), settings); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

func TestStandalone(t *testing.T) {
	b, err := standalone(settings)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseConf(b)
	if err != nil || c.Name != Name || c.Socket != "/run/s" || !c.excludes(Pod{Namespace: "kube-system"}) || c.excludes(Pod{Namespace: "shop"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

// FuzzJoin: whatever a network's list is, joining it twice is joining it once,
// and leaving takes it back to what others put there.
func FuzzJoin(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.0.0","plugins":[{"type":"bridge"}]}`))
	f.Add([]byte(`{"cniVersion":"0.3.1","plugins":[{"type":"a","x":1e400},` + ours + `]}`))
	f.Add([]byte(`{"cniVersion":"1.0.0","plugins":[null,{"type":null}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		joined, err := join(b, settings)
		if err != nil {
			return
		}
		again, err := join(joined, settings)
		if err != nil || string(again) != string(joined) {
			t.Fatalf("%s, %v\nafter\n%s", again, err, joined)
		}
		left, err := leave(joined)
		if err != nil || strings.Contains(string(left), `"type": "`+Name+`"`) {
			t.Fatalf("left %s, %v", left, err)
		}
	})
}
