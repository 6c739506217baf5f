package dashboard_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hasp/dashboard"
)

// view has the fields that the page reads.
func view() (any, error) {
	type nack struct{ Message string }
	type proxy struct {
		Node, Identity  string
		AckedGeneration uint64
		Connected       bool
		Nack            *nack
	}
	type last struct{ Took time.Duration }
	type control struct {
		TrustDomain         string
		Generation          uint64
		Last                last
		AutoMTLS            bool
		Services, Workloads int
		Proxies             []proxy
		Unmeshed, Problems  []string
	}
	return struct {
		App     bool
		Page    string
		Control control
	}{true, "http://127.0.0.1:8080", control{
		TrustDomain: "cluster.local", Generation: 7, Last: last{3 * time.Millisecond},
		Proxies: []proxy{
			{"shop/web", "spiffe://a", 7, true, nil},
			{"shop/old", "spiffe://b", 6, true, nil},
			{"shop/bad", "spiffe://c", 6, true, &nack{"cannot do <x>"}},
			{"shop/off", "spiffe://d", 6, false, nil},
		},
		Unmeshed: []string{"shop/rogue"},
	}}, nil
}

func TestPage(t *testing.T) {
	srv := httptest.NewServer(dashboard.Handler(view))
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Generation 7, enforced by every proxy in 3ms", "up to date", "behind", "refused: cannot do &lt;x&gt;", "not connected", "shop/rogue", "http://127.0.0.1:8080"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestForeignHostIsRefused(t *testing.T) {
	srv := httptest.NewServer(dashboard.Handler(view))
	defer srv.Close()
	for host, want := range map[string]int{"rebound.example.com": 403, "localhost:20001": 200, "127.0.0.1": 200, "[::1]:80": 200} {
		req, err := http.NewRequest("GET", srv.URL+"/status.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Host %s: status %d, want %d", host, resp.StatusCode, want)
		}
	}
}
