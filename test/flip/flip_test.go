// Package flip is the rung that changes policies under load: PERMISSIVE to
// STRICT and back every second, while mesh clients send five hundred requests a
// second, on connections old and new. None may fail, ever; an outsider, who is
// served and refused in turn, proves that the flips arrive, also on a connection
// that was there before.
package flip

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"hasp/test/meshtest"
)

const (
	rate  = 500 // requests a second from the mesh
	kept  = 16  // connections that most of them share
	every = time.Second
)

// result is what test/load prints.
type result struct {
	Sent, Failed, Late, Fresh, Redialed int
	Errors                              map[string]int
	P50ms, P99ms, Maxms                 float64
}

func TestFlip(t *testing.T) {
	lasts := time.Minute
	if testing.Short() {
		lasts = 10 * time.Second
	}
	load := meshtest.Build(t, "load")
	m := meshtest.Start(t, meshtest.Options{User: meshtest.Ordinary()})
	m.Apply(t, server(load))
	m.Change(t, func() { m.Apply(t, mode("PERMISSIVE")) })
	m.Available(t)

	var mesh, outsider, lingerer result
	var g errgroup.Group
	g.Go(func() (err error) {
		mesh, err = run(t, m, meshtest.Client{Name: "mesh", Meshed: true, Command: []string{
			load, "run", "-to", "server:8080", "-for", lasts.String(),
			"-rate", fmt.Sprint(rate), "-kept", fmt.Sprint(kept), "-fresh", "10"}})
		return err
	})
	g.Go(func() (err error) {
		outsider, err = run(t, m, meshtest.Client{Name: "outsider", Command: []string{
			load, "run", "-to", "server:8080", "-for", lasts.String(), "-rate", "20", "-fresh", "1"}})
		return err
	})
	g.Go(func() (err error) {
		lingerer, err = run(t, m, meshtest.Client{Name: "lingerer", Command: []string{
			load, "run", "-to", "server:8080", "-for", lasts.String(), "-rate", "20", "-fresh", "0", "-kept", "1"}})
		return err
	})
	flips := flip(t, m, lasts)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}

	t.Logf("%d flips; mesh %+v; outsider %+v; lingerer %+v", flips, mesh, outsider, lingerer)
	// Bringing a policy to every proxy and back takes a fraction of a second.
	if least := int(lasts/every) * 3 / 4; flips < least {
		t.Errorf("%d flips, want at least %d", flips, least)
	}
	if mesh.Failed > 0 || mesh.Redialed > 0 {
		t.Errorf("%d requests from the mesh failed and %d connections broke, want none: %v", mesh.Failed, mesh.Redialed, mesh.Errors)
	}
	if want := rate * int(lasts.Seconds()); mesh.Sent+mesh.Late < want*9/10 || mesh.Late > want/10 {
		t.Errorf("sent %d of %d requests, %d too late: the rate was not kept", mesh.Sent, want, mesh.Late)
	}
	if mesh.Fresh < mesh.Sent/20 {
		t.Errorf("only %d requests of %d had a connection of their own", mesh.Fresh, mesh.Sent)
	}
	resets := []string{"connection reset by peer", "broken pipe"}
	refused(t, "an outsider", outsider, resets...)
	// A connection from before a flip does not outlive its right. One that was in
	// the middle of a response gets all of it and ends in order, since a reset
	// could destroy what is not read yet: the next request finds it closed.
	refused(t, "an outsider on a kept connection", lingerer, append(resets, "EOF")...)
}

// refused in turn: served while PERMISSIVE, refused in one of these ways while
// STRICT.
func refused(t *testing.T, who string, r result, by ...string) {
	t.Helper()
	if served := r.Sent - r.Failed; served == 0 || r.Failed == 0 {
		t.Errorf("%s was served %d times and refused %d times, want both", who, served, r.Failed)
	}
	for what := range r.Errors {
		if !slices.ContainsFunc(by, func(s string) bool { return strings.Contains(what, s) }) {
			t.Errorf("%s was refused by %q, want one of %q", who, what, by)
		}
	}
}

// flip the mode until the time is over, and count.
func flip(t *testing.T, m *meshtest.Mesh, lasts time.Duration) (flips int) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for end := time.Now().Add(lasts); time.Now().Before(end); <-tick.C {
		next := "STRICT"
		if flips%2 == 1 {
			next = "PERMISSIVE"
		}
		m.Apply(t, mode(next))
		flips++
	}
	return flips
}

// run a load client in a pod and read its result.
func run(t *testing.T, m *meshtest.Mesh, c meshtest.Client) (r result, err error) {
	out := m.Client(t, c)
	if out.Err != nil {
		return r, fmt.Errorf("%s: %w\n%s", c.Name, out.Err, out.Output())
	}
	if err := json.Unmarshal([]byte(out.Stdout), &r); err != nil {
		return r, fmt.Errorf("%s: %w\n%s", c.Name, err, out.Output())
	}
	return r, nil
}

func mode(m string) string {
	return `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default}, spec: {mtls: {mode: ` + m + `}}}`
}

func server(load string) string {
	return strings.ReplaceAll(`
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: server}
  ports: [{name: http, port: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata:
      labels: {app: server}
      annotations: {sidecar.istio.io/inject: "true"}
    spec:
      containers:
      - name: server
        image: hasp/local
        command: [LOAD, serve]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
`, "LOAD", load)
}
