package xds_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"hasp/mesh"
	"hasp/xds"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The resources as an Envoy would print them in its config dump: what to read
// to see the shapes.
func TestGolden(t *testing.T) {
	gateway := lab()
	gateway.Node, gateway.Role, gateway.Inbound, gateway.Outbound.Listeners, gateway.Peers = "istio-system/ingressgateway-1", mesh.RoleGateway, mesh.Inbound{}, nil, nil
	all := []mesh.HTTPRoute{{
		Hosts: []string{"*"}, To: []mesh.WeightedTarget{{Cluster: boards}},
		Matches: []mesh.HTTPMatch{{PathPrefix: "/boards/", Method: "GET"}, {PathExact: "/"}},
		Origin:  mesh.Origin{Kind: "VirtualService", Namespace: "microservices-demo", Name: "ingress"},
	}}
	origin := mesh.Origin{Kind: "Gateway", Namespace: "microservices-demo", Name: "ingress"}
	gateway.Gateway = []mesh.Server{
		{Name: "http", Port: 80, Protocol: mesh.HTTP, Hosts: []string{"*"}, Routes: all, Origin: origin},
		{Name: "https", Port: 443, Protocol: mesh.HTTPS, Hosts: []string{"shop.example.com"}, Secret: "kubernetes://shop", Mutual: true, Routes: all, Origin: origin},
	}
	gateway.Settings = mesh.Settings{AccessLog: mesh.LogJSON, ConnectTimeoutMillis: 2500, DrainMillis: 45_000, TerminationDrainMillis: 5000}
	gateway.Secrets = []mesh.Secret{{Name: "kubernetes://shop", Cert: []byte("CERT"), Key: []byte("KEY"), CA: []byte("CA")}}
	sidecar := lab()
	sidecar.Settings = mesh.Settings{AccessLog: mesh.LogText, ConnectTimeoutMillis: 10_000}
	for name, c := range map[string]*mesh.ProxyConfig{"sidecar": sidecar, "gateway": gateway} {
		t.Run(name, func(t *testing.T) {
			r, err := xds.Encode(c)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name+".json"), dump(t, r))
		})
	}
}

func dump(t *testing.T, r xds.Resources) []byte {
	t.Helper()
	var all []json.RawMessage
	for _, kind := range xds.Types {
		for _, name := range r.Names(kind) {
			b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(r[kind][name].Body)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b)
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil { // protojson's own spacing varies on purpose
		t.Fatal(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Error(d)
	}
}
