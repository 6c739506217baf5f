package proxy

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"hasp/mesh"
)

// TestGatewayPortOpensLater: a port that somebody else has is no secret, and is
// the gateway's as soon as it is free.
func TestGatewayPortOpensLater(t *testing.T) {
	var log bytes.Buffer // read when the gateway has ended
	t.Run("gateway", func(t *testing.T) {
		m := newGatewayLab(t, mirror, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		taken, err := net.Listen("tcp", fmt.Sprintf(":%d", freePort(t)))
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		port := addrPort(taken.Addr()).Port()
		m.config.Gateway = append(m.config.Gateway, m.serve(port, mesh.HTTP, mesh.HTTPRoute{Hosts: []string{"*"}}))
		m.gw.apply(m.config)

		want := fmt.Sprintf("gateway port %d: listen tcp :%d: bind: address already in use; something else in the pod listens there: name another port in the Gateway\n", port, port)
		until(t, "the health page says why", func() bool { code, body := readyPage(m.gw); return code == 503 && body == want })
		if code, _, _ := m.get(t, "/"); code != 200 {
			t.Errorf("the other port answers %d", code)
		}
		taken.Close()
		until(t, "the gateway is ready", func() bool { return m.gw.Ready() == nil })
		m.http = port
		if code, _, _ := m.get(t, "/"); code != 200 {
			t.Errorf("the port answers %d", code)
		}
	})
	if got := strings.Count(log.String(), "gateway port not opened"); got != 1 {
		t.Errorf("said %d times:\n%s", got, &log)
	}
}

func readyPage(n *node) (int, string) {
	w := httptest.NewRecorder()
	n.HealthHandler().ServeHTTP(w, httptest.NewRequest("GET", "/healthz/ready", nil))
	return w.Code, w.Body.String()
}

func TestNotOpenNamesTheWayOut(t *testing.T) {
	const want = "gateway port 80: permission denied; give the pod the sysctl net.ipv4.ip_unprivileged_port_start=0, or name a port of 1024 and more in the Gateway"
	if got := notOpen(80, syscall.EACCES).Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
