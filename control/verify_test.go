package control_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"hasp/control"
	"hasp/proof"
)

// careless is the front of a workload that lets anybody in, whatever it is told.
func careless(t *testing.T, address string, cert *tls.Certificate) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"istio"}})
				if s.Handshake() != nil {
					_, _ = io.WriteString(c, "anything")
					return
				}
				_, _ = io.Copy(io.Discard, s)
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr).Port
}

func TestVerify(t *testing.T) {
	outside := strings.Replace(strings.Replace(pod("curl", "127.0.0.9"), `, annotations: {sidecar.istio.io/inject: "true"}`, "", 1), "app: web", "app: curl", 1)
	p := start(t, strict, outside)
	cert, err := p.ca.Issue(webID, 0)
	if err != nil {
		t.Fatal(err)
	}
	port := careless(t, "127.0.0.5", cert)
	p.apply(t, strings.Replace(pod("web-1", "127.0.0.5"), "8080", fmt.Sprint(port), 1))
	srv := views(t, p)
	wait(t, "the pod to be read", func() bool { return p.World().Workload("shop/web-1") != nil })

	resp, err := srv.Client().Post(srv.URL+"/verify?workload=web-1.shop&workload=shop/curl&namespace=shop", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var signed proof.Signed
	decode(t, resp, &signed)
	checked, err := signed.Check(p.ca.Bundle(), func(td string) []string { return []string{control.Identity(td)} })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range checked.Workloads {
		for _, c := range w.Checks {
			got = append(got, fmt.Sprintf("%s %s: %s", w.Workload, c.Name, c.Verdict))
		}
	}
	want := []string{
		"shop/web-1 plaintext: failed", "shop/web-1 no-certificate: failed", "shop/web-1 other-ca: failed", "shop/web-1 other-trust-domain: failed",
		"shop/web-1 member: proven", "shop/web-1 wire: unknown", "shop/web-1 capture: unknown", "shop/curl sidecar: failed",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if checked.Identity != "spiffe://cluster.local/ns/istio-system/sa/hasp-verify" || checked.Generation != p.World().Generation {
		t.Errorf("report: %+v", checked)
	}

	for query, want := range map[string]string{
		"workload=nobody": "there is no workload nobody", "workload=web-1&namespace=other": "there is no workload web-1", "namespace=other": "there is no workload with a sidecar",
	} {
		resp, err := srv.Client().Post(srv.URL+"/verify?"+query, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s: %s", query, resp.Status, body)
		}
		if resp.Header.Get(control.VersionHeader) == "" {
			t.Errorf("%s: without its version it is taken for a control plane that cannot verify", query)
		}
	}
}
