package xds_test

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"

	"hasp/xds"
)

// Whatever a control plane sends in place of one resource, Decode answers with
// an error or with a configuration that Encode takes.
func FuzzDecode(f *testing.F) {
	for seed := range uint64(6) {
		r, err := xds.Encode(gen{rand.New(rand.NewPCG(seed, 0))}.config())
		if err != nil {
			f.Fatal(err)
		}
		for i, kind := range xds.Types {
			for _, name := range r.Names(kind) {
				f.Add(seed, i, name, r[kind][name].Body.Value)
			}
		}
	}
	f.Fuzz(func(t *testing.T, seed uint64, kind int, name string, body []byte) {
		if kind < 0 || kind >= len(xds.Types) {
			return
		}
		r, err := xds.Encode(gen{rand.New(rand.NewPCG(seed, 0))}.config())
		if err != nil {
			t.Fatal(err)
		}
		url := xds.Types[kind]
		r.Set(url, name, xds.Resource{Version: "fuzz", Body: &anypb.Any{TypeUrl: url, Value: body}})
		_, _ = xds.RouteNames(r), xds.SecretNames(r)
		c, err := xds.Decode(r)
		if (c == nil) != (err != nil) {
			t.Errorf("configuration %v, error %v", c, err)
		}
		if err != nil {
			return
		}
		again, err := xds.Encode(c)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		got, err := xds.Decode(again)
		if err != nil {
			t.Fatalf("what was decoded and encoded cannot be decoded: %v", err)
		}
		if d := cmp.Diff(c, got, sameAddr); d != "" {
			t.Error(d)
		}
	})
}
