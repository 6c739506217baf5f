// Package dashboard looks at the dashboard with a real Chromium: what the pages
// do by themselves, by keyboard, on a phone, in the dark and without JavaScript.
// Most of it is on the pages of a mesh that is made up (package fake), which can
// be changed at will.
package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"hasp/dashboard"
	"hasp/test/dashboard/chrome"
	"hasp/test/dashboard/fake"
	"hasp/test/meshtest"
)

// pages of the made-up mesh.
var pages = []string{
	"/", "/edge?from=shop%2Fweb&to=shop%2Fprofiles&port=8080", "/workload/shop/boards", "/outside?address=10.88.0.77",
	"/plaintext", "/what-if", "/timeline", "/status", "/why/5ca1ab1e00000000",
}

// user is somebody at a browser.
type user struct {
	*testing.T
	ctx  context.Context
	b    *chrome.Browser
	base string
}

// sit somebody in front of the pages of a server. Whatever they do, at the end
// the console must be empty and every request have gone to the server.
func sit(t *testing.T, base string) *user {
	t.Helper()
	meshtest.Need(t, "chromium")
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	dir, err := os.MkdirTemp("", "chromium")
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	b, err := chrome.Start(ctx, program, dir)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	u := &user{T: t, ctx: ctx, b: b, base: base}
	t.Cleanup(func() {
		u.wellBehaved()
		b.Close()
		cancel()
		// Its helpers may still write when it has gone.
		meshtest.Eventually(t, time.Minute, "the browser's profile can be removed", func() bool { return os.RemoveAll(dir) == nil })
	})
	u.screen(1280, 900, false)
	return u
}

func shop(t *testing.T) (*fake.Mesh, *user) {
	m := fake.Shop()
	srv := httptest.NewServer(dashboard.Handler(m))
	u := sit(t, srv.URL)
	t.Cleanup(srv.CloseClientConnections)
	t.Cleanup(srv.Close)
	return m, u
}

func (u *user) must(err error) {
	u.Helper()
	if err != nil {
		u.Fatal(err)
	}
}

func (u *user) open(path string) {
	u.Helper()
	u.must(u.b.Open(u.ctx, u.base+path))
}

func (u *user) screen(width, height int, dark bool) {
	u.Helper()
	u.must(u.b.Screen(u.ctx, width, height, dark))
}

// text that a script says of the page.
func (u *user) text(script string) string {
	u.Helper()
	var s string
	u.must(u.b.Eval(u.ctx, script, &s))
	return s
}

// until an expression is true of the page, which may change by itself.
func (u *user) until(expression string) {
	u.Helper()
	u.must(u.b.Eval(u.ctx, fmt.Sprintf(`new Promise((done) => {
		const look = () => { if (%s) { watch.disconnect(); done(); } };
		const watch = new MutationObserver(look);
		watch.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
		look();
	})`, expression), nil))
}

// wellBehaved: no error, and nobody else was asked for anything.
func (u *user) wellBehaved() {
	u.Helper()
	for _, e := range u.b.Events() {
		switch e.Method {
		case "Runtime.exceptionThrown":
			u.Errorf("the page failed: %s", e.Params)
		case "Runtime.consoleAPICalled", "Log.entryAdded":
			u.Errorf("the console says: %s", e.Params)
		case "Network.requestWillBeSent":
			var p struct {
				Request struct {
					URL string `json:"url"`
				} `json:"request"`
			}
			u.must(json.Unmarshal(e.Params, &p))
			if !strings.HasPrefix(p.Request.URL, u.base+"/") && p.Request.URL != "about:blank" {
				u.Errorf("the page asked for %s", p.Request.URL)
			}
		}
	}
}

// TestLive: news changes what the page shows, and neither reloads it nor moves
// anything, nor takes the focus away.
func TestLive(t *testing.T) {
	m, u := shop(t)
	u.open("/")
	u.until(`document.getElementById("state").textContent == "live"`)
	const edge = `document.querySelector('a.edge[aria-label^="shop/metrics-collector to shop/boards"]')`
	where := `JSON.stringify([...document.querySelectorAll(".graph .node > svg")].map((n) => [n.getAttribute("x"), n.getAttribute("y")]))`
	before := u.text(where)
	if got := u.text(`document.getElementById("lock").textContent`); got != "70 % mutual TLS" {
		t.Errorf("the masthead says %q", got)
	}
	if got := u.text(edge + `.getAttribute("class")`); got != "edge open" {
		t.Errorf("the edge is %q", got)
	}
	u.must(u.b.Eval(u.ctx, `window.same = true; document.querySelector('a.edge[aria-label^="shop/web to shop/boards"]').focus()`, nil))
	m.Change(func(m *fake.Mesh) {
		for i := range m.Edges {
			e := &m.Edges[i]
			e.MutualTLS, e.Plaintext, e.Lock = e.MutualTLS+e.Plaintext, 0, "closed"
		}
	})
	u.until(`document.getElementById("lock").textContent == "100 % mutual TLS"`)
	if got := u.text(edge + `.getAttribute("class")`); got != "edge closed" {
		t.Errorf("the edge is %q", got)
	}
	if got := u.text(`document.getElementById("said").textContent`); got != "All 9 edges are mutual TLS." {
		t.Errorf("what is read out is %q", got)
	}
	if after := u.text(where); after != before {
		t.Errorf("what did not change has moved: %s, then %s", before, after)
	}
	if got := u.text(`String(window.same) + " " + document.activeElement.getAttribute("data-key")`); !strings.HasPrefix(got, "true e shop/web shop/boards 8080") {
		t.Errorf("the page was loaded anew or the focus is elsewhere: %s", got)
	}

	// While nobody answers, what was shown stays.
	m.Change(func(m *fake.Mesh) { m.Err = errors.New("away") })
	u.until(`document.getElementById("state").textContent == "no answer"`)
	if got := u.text(edge + `.getAttribute("class")`); got != "edge closed" {
		t.Errorf("the edge is %q", got)
	}
	m.Change(func(m *fake.Mesh) { m.Err, m.Edges[0].Lock = nil, "refused" })
	u.until(`document.getElementById("state").textContent == "live" && document.querySelector(".edge.refused") != null`)
	u.b.Forget() // the console tells of the 503

	u.must(u.b.Eval(u.ctx, `document.getElementById("pause").click()`, nil))
	if got := u.text(`document.getElementById("state").textContent`); got != "paused" {
		t.Errorf("the page that was to pause is %q", got)
	}
}

// TestWhatIf: a policy is pasted and sent by keyboard alone; the graph shows who
// would be cut.
func TestWhatIf(t *testing.T) {
	_, u := shop(t)
	u.open("/what-if")
	u.must(u.b.Eval(u.ctx, `document.getElementById("yaml").focus()`, nil))
	u.must(u.b.Call(u.ctx, "Input.insertText", map[string]any{"text": "kind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n"}, nil))
	u.must(u.b.Press(u.ctx, "Tab"))
	seen := len(u.b.Events())
	u.must(u.b.Press(u.ctx, "Enter"))
	u.must(u.b.Wait(u.ctx, seen, "Page.loadEventFired"))
	if got := u.text(`document.querySelector(".verdict").textContent`); !strings.Contains(got, "Somebody would be hurt.") {
		t.Errorf("the answer is %q", got)
	}
	for _, from := range []string{"shop/metrics-collector", "10.88.0.99"} {
		got := u.text(fmt.Sprintf(`(() => {
			const e = document.querySelector('a.edge.cut[aria-label^="%s to"]'), line = getComputedStyle(e.querySelector(".line"));
			return line.strokeDasharray + "; " + line.stroke + "; " + e.querySelector(".numbers").textContent;
		})()`, from))
		if got != "7px, 5px; rgb(179, 38, 30); would be cut" {
			t.Errorf("the edge from %s is drawn as %s", from, got)
		}
	}
	if got := u.text(`document.getElementById("yaml").value`); !strings.Contains(got, "mode: STRICT") {
		t.Errorf("what was pasted is gone: %q", got)
	}
}

// TestLook: no page is wider than a phone, and in light and dark every word has
// the contrast that WCAG asks for.
func TestLook(t *testing.T) {
	_, u := shop(t)
	for _, path := range pages {
		for _, width := range []int{320, 390, 1280} {
			u.screen(width, 800, false)
			u.open(path)
			// Not innerWidth: a phone makes that as wide as the page.
			if got := u.text(`String(document.documentElement.scrollWidth)`); got != strconv.Itoa(width) {
				t.Errorf("%s is %s wide on a screen of %d", path, got, width)
			}
		}
		for _, dark := range []bool{false, true} {
			u.screen(1280, 900, dark)
			u.open(path)
			if got := u.text(contrast); got != "" {
				t.Errorf("%s, dark %t: hard to read: %s", path, dark, got)
			}
		}
	}
}

// contrast finds words whose contrast is below 4.5.
const contrast = `(() => {
	const rgb = (c) => { const m = c.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
	const light = (c) => { const f = c.slice(0, 3).map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * f[0] + .7152 * f[1] + .0722 * f[2]; };
	const ground = (e) => {
		for (; e; e = e.parentElement) {
			if (e.matches(".graph a.edge")) return rgb(getComputedStyle(e.querySelector(".label rect")).fill);
			if (e.matches(".graph a.node") && !e.matches(".outside")) return rgb(getComputedStyle(e.querySelector("rect")).fill);
			const c = rgb(getComputedStyle(e).backgroundColor);
			if (c[3] == 1) return c;
		}
		return [255, 255, 255, 1];
	};
	const bad = new Set();
	const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (words.nextNode()) {
		const e = words.currentNode.parentElement;
		if (!words.currentNode.data.trim() || e.matches("script, noscript, title, desc, option, .vh, .skip") || e.closest(".vh, .skip")) continue;
		const style = getComputedStyle(e), svg = e instanceof SVGElement;
		const a = light(rgb(svg ? style.fill : style.color)), b = light(ground(e));
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (ratio < 4.5) bad.add(words.currentNode.data.trim() + " " + ratio.toFixed(1));
	}
	return [...bad].join("; ");
})()`

// TestKeyboard: the first key shows the way past the navigation, every edge of
// the graph is reached and seen to be, and opens.
func TestKeyboard(t *testing.T) {
	_, u := shop(t)
	u.open("/")
	var order []string
	for range 60 {
		u.must(u.b.Press(u.ctx, "Tab"))
		got := u.text(`(() => {
			const e = document.activeElement;
			if (e == document.body) return "";
			const seen = e.matches("a.edge, a.node") ? getComputedStyle(e.querySelector("rect")).strokeWidth == "2.5px" : getComputedStyle(e).outlineStyle == "solid";
			const at = e.getBoundingClientRect();
			return (seen && at.width > 0 && at.right > 0 ? "" : "unseen ") + (e.getAttribute("aria-label") || e.textContent.trim() || e.name);
		})()`)
		if got == "" {
			break
		}
		order = append(order, got)
		if strings.HasPrefix(got, "unseen") {
			t.Errorf("the focus is not seen: %s", got)
		}
		if strings.HasPrefix(got, "shop/web to shop/profiles") {
			break
		}
	}
	said := strings.Join(order, "\n")
	if len(order) == 0 || order[0] != "Skip to the content" {
		t.Errorf("the first is not the way to the content: %s", said)
	}
	for _, edge := range []string{"10.88.0.77 to shop/gateway, port 8443: plaintext", "shop/boards to shop/boards-db, port 5432: mutual TLS", "shop/web to shop/profiles, port 8080: partly mutual TLS, 83 %"} {
		if !strings.Contains(said, edge) {
			t.Errorf("%q is not reached: %s", edge, said)
		}
	}
	seen := len(u.b.Events())
	u.must(u.b.Press(u.ctx, "Enter"))
	u.must(u.b.Wait(u.ctx, seen, "Page.loadEventFired"))
	if got := u.text(`document.title`); got != "shop/web to shop/profiles · hasp" {
		t.Errorf("Enter opened %q", got)
	}
}

// TestReadOut: what a screen reader is told of the page.
func TestReadOut(t *testing.T) {
	_, u := shop(t)
	u.open("/")
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name struct{ Value any }
		}
	}
	u.must(u.b.Call(u.ctx, "Accessibility.getFullAXTree", nil, &tree))
	told := map[string]bool{}
	for _, n := range tree.Nodes {
		if !n.Ignored {
			told[fmt.Sprintf("%v: %v", n.Role.Value, n.Name.Value)] = true
		}
	}
	for _, want := range []string{
		"banner: ", "navigation: Pages", "main: ", "contentinfo: ", "heading: Services", "status: ", "region: Graph",
		"link: shop/web to shop/boards, port 8080: mutual TLS, 33.0/s", "link: Edge shop/web to shop/boards, port 8080: mutual TLS, 33.0/s",
		"table: Edges: who calls whom, what needs attention first", "columnheader: Encryption",
	} {
		if !told[want] {
			t.Errorf("nobody is told %q", want)
		}
	}
	if got := u.text(`document.documentElement.lang + " " + document.querySelector(".graph svg title").textContent + ". " + document.querySelector(".graph svg desc").textContent`); !strings.HasPrefix(got, "en Who talks to whom. 5 of 9 edges are mutual TLS") {
		t.Errorf("the drawing is described as %q", got)
	}
}

// TestWithoutScript: the page loads itself anew, and the form works.
func TestWithoutScript(t *testing.T) {
	m, u := shop(t)
	u.must(u.b.Call(u.ctx, "Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil))
	u.open("/plaintext")
	m.Change(func(m *fake.Mesh) { m.Lines = nil })
	u.must(u.b.Wait(u.ctx, len(u.b.Events()), "Page.loadEventFired"))
	u.must(u.b.Call(u.ctx, "Emulation.setScriptExecutionDisabled", map[string]any{"value": false}, nil))
	if got := u.text(`document.querySelector("main").textContent`); !strings.Contains(got, "STRICT is safe") {
		t.Errorf("after the page loaded itself it says %q", got)
	}
}

// TestOtherSite: a page of another origin can neither ask nor read.
func TestOtherSite(t *testing.T) {
	_, u := shop(t)
	u.open("/")
	// The same server by its other name is another origin.
	port := strings.TrimPrefix(u.base, "http://127.0.0.1:")
	u.must(u.b.Open(u.ctx, "http://localhost:"+port+"/what-if"))
	got := u.text(`fetch("` + u.base + `/api/what-if", {method: "POST", body: "kind: X"}).then((r) => "answered", (e) => "refused")`)
	if got != "refused" {
		t.Errorf("another origin was %s", got)
	}
	// What it tried is no fault of the page.
	u.b.Forget()
}
