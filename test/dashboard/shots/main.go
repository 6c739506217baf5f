// Shots takes pictures of the pages of a mesh that is made up, to look at:
// go run ./test/dashboard/shots DIR [NAME [URL]].
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hasp/dashboard"
	"hasp/test/dashboard/chrome"
	"hasp/test/dashboard/fake"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: shots DIR [NAME [URL]]")
		os.Exit(2)
	}
	out := os.Args[1]
	only := ""
	if len(os.Args) > 2 {
		only = os.Args[2]
	}
	base, path := "", ""
	if len(os.Args) > 3 {
		u, err := url.Parse(os.Args[3])
		check(err)
		base, path = u.Scheme+"://"+u.Host, u.RequestURI()
	} else {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		check(err)
		go http.Serve(ln, dashboard.Handler(fake.Shop()))
		base = "http://" + ln.Addr().String()
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	dir, err := os.MkdirTemp("", "shots")
	check(err)
	defer os.RemoveAll(dir)
	b, err := chrome.Start(ctx, "chromium", dir)
	check(err)
	defer b.Close()
	for _, s := range []struct {
		name, path string
		w, h       int
		dark       bool
	}{
		{"home", "/", 1280, 1250, false}, {"home-dark", "/", 1280, 1250, true}, {"phone", "/", 390, 1800, false},
		{"edge", "/edge?from=shop/web&to=shop/profiles&port=8080", 1280, 800, false}, {"node", "/workload/shop/boards", 1280, 1300, true},
		{"plaintext", "/plaintext", 1280, 600, false}, {"timeline", "/timeline", 1280, 500, true}, {"status", "/status", 1280, 600, false},
		{"why", "/why/5ca1ab1e00000000", 1280, 800, false}, {"error", "/nope", 800, 400, false}, {"phone-node", "/workload/shop/boards", 390, 1800, true},
		{"whatif", "whatif", 1280, 1600, false}, {"whatif-dark", "whatif", 1280, 1600, true}, {"phone-whatif", "whatif", 390, 2000, false}, {"page", path, 1280, 900, false}, {"page-dark", path, 1280, 900, true},
	} {
		if only != "" && !slices.Contains(strings.Split(only, ","), s.name) {
			continue
		}
		if s.path == "" {
			continue
		}
		check(b.Screen(ctx, s.w, s.h, s.dark))
		if s.path == "whatif" {
			check(b.Open(ctx, base+"/what-if"))
			seen := len(b.Events())
			check(b.Eval(ctx, "document.getElementById('yaml').value = decodeURIComponent('"+url.PathEscape("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\nspec: {mtls: {mode: STRICT}}")+"'); document.querySelector('form.candidate button').click()", nil))
			check(b.Wait(ctx, seen, "Page.loadEventFired"))
		} else {
			check(b.Open(ctx, base+s.path))
		}
		png, err := b.Screenshot(ctx)
		check(err)
		check(os.WriteFile(filepath.Join(out, s.name+".png"), png, 0o644))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
