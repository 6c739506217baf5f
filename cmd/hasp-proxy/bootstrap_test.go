package main

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"hasp/mesh"
)

const whole = `{"node":"shop/boards-1","identity":"spiffe://cluster.local/ns/shop/sa/boards","role":"sidecar",
"controlPlane":"10.77.0.1:15012","controlPlaneID":"spiffe://cluster.local/ns/istio-system/sa/istiod","roots":"PEM","token":"secret","mark":1337}`

func TestParseBootstrap(t *testing.T) {
	b, err := parseBootstrap([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if b.OutboundPort != 15001 || b.InboundPort != 15006 || b.AdminPort != 15000 || b.HealthPort != 15021 || b.MetricsPort != 15090 || b.Mark != 1337 {
		t.Errorf("got %+v", b)
	}
	for _, tc := range []struct{ old, new, want string }{
		{`"node":"shop/boards-1"`, `"node":""`, "bootstrap: node is missing"},
		{`"roots":"PEM"`, `"roots":""`, "bootstrap: roots is missing"},
		{`"role":"sidecar"`, `"role":"king"`, `bootstrap: role "king": it is sidecar or gateway`},
		{`"mark":1337`, `"mark":-1`, "bootstrap: certLifetime and mark are not negative"},
		{`"mark":1337}`, ``, "bootstrap: unexpected end of JSON input"},
	} {
		_, err := parseBootstrap([]byte(strings.Replace(whole, tc.old, tc.new, 1)))
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s: got %v, want %s", tc.new, err, tc.want)
		}
	}
}

func TestReadBootstrapOnce(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, whole)
	w.Close()
	fd := given(t, r)
	b, err := readBootstrap(fd)
	if err != nil || b.Token != "secret" || b.Role != mesh.RoleSidecar {
		t.Fatalf("got %+v, %v", b, err)
	}
	if _, err := readBootstrap(fd); err == nil {
		t.Error("the descriptor is still open")
	}
}

func TestInherited(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	got, err := inherited(map[uint16]int{8080: given(t, f)})
	if err != nil {
		t.Fatal(err)
	}
	defer got[8080].Close()
	if got[8080].Addr().String() != ln.Addr().String() {
		t.Errorf("got %s", got[8080].Addr())
	}
}

func TestFlags(t *testing.T) {
	for _, tc := range []struct{ arg, want string }{
		{"--access-log=xml", `hasp-proxy: --access-log "xml": it is text, json or off`},
		{"--trunks=false", `hasp-proxy: --trunks "false": it is on or off`},
		{"--idle-timeout=-1s", `invalid value "-1s" for flag -idle-timeout: it is a duration such as 1h, or 0`},
		{"--relay=quick", `hasp-proxy: --relay "quick": it is fast or portable`},
		{"left", `hasp-proxy: unexpected argument "left"`},
		{"--bootstrap-fd=-1", "hasp-proxy: --bootstrap-fd -1: not a descriptor"},
		{"--help", "hasp-proxy --bootstrap-fd 3 3< bootstrap.json"},
	} {
		var out strings.Builder
		if _, err := parse([]string{tc.arg}, podNames{}, &out); err == nil || !strings.Contains(out.String(), tc.want) {
			t.Errorf("%s: %v, %s", tc.arg, err, out.String())
		}
	}
}
