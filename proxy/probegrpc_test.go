package proxy

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"hasp/mesh"
)

// healthApp is a gRPC workload whose service "boards" serves and whose service
// "sick" does not. It counts the calls.
func healthApp(t testing.TB) (netip.AddrPort, *atomic.Int64) {
	t.Helper()
	var calls atomic.Int64
	srv := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		calls.Add(1)
		if in, ok := in.(*healthpb.HealthCheckRequest); ok && in.Service == "hang" {
			<-ctx.Done()
		}
		return h(ctx, in)
	}))
	states := grpchealth.NewServer()
	states.SetServingStatus("boards", healthpb.HealthCheckResponse_SERVING)
	states.SetServingStatus("sick", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(srv, states)
	ln := listenOn(t, "127.0.0.1")
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(ln)
	}()
	t.Cleanup(func() { srv.Stop(); <-done })
	return addrPort(ln.Addr()), &calls
}

// kubeletGRPC is a kubelet's connection for a gRPC probe.
// https://github.com/kubernetes/kubernetes/blob/v1.37.0/pkg/probe/grpc/grpc.go
func kubeletGRPC(t testing.TB, at netip.AddrPort, agent string) healthpb.HealthClient {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+at.String(), grpc.WithUserAgent(agent), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return healthpb.NewHealthClient(c)
}

func TestGRPCProbe(t *testing.T) {
	at, calls := healthApp(t)
	var list []mesh.Probe
	for _, service := range []string{"", "boards", "sick", "unknown"} {
		list = append(list, mesh.Probe{Kind: mesh.ProbeGRPC, Service: service})
	}
	for _, tc := range []struct {
		service string
		want    healthpb.HealthCheckResponse_ServingStatus
		code    codes.Code
		why     string
	}{
		{"", healthpb.HealthCheckResponse_SERVING, codes.OK, `gRPC probe: Check of "": the workload answered SERVING`},
		{"boards", healthpb.HealthCheckResponse_SERVING, codes.OK, `gRPC probe: Check of "boards": the workload answered SERVING`},
		{"sick", healthpb.HealthCheckResponse_NOT_SERVING, codes.OK, `gRPC probe: Check of "sick": the workload answered NOT_SERVING`},
		{"unknown", 0, codes.NotFound, `gRPC probe: Check of "unknown": rpc error: code = NotFound desc = unknown service`},
	} {
		t.Run(tc.service, func(t *testing.T) {
			n, in := probedNode(t, at, mesh.ModeStrict, list...)
			before := calls.Load()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			res, err := kubeletGRPC(t, in, "kube-probe/1.37").Check(metadata.NewOutgoingContext(ctx, metadata.MD{}), &healthpb.HealthCheckRequest{Service: tc.service})
			if res.GetStatus() != tc.want || status.Code(err) != tc.code {
				t.Errorf("got %v, %v", res, err)
			}
			if calls.Load() != before+1 {
				t.Errorf("the workload was asked %d times", calls.Load()-before)
			}
			f := n.row(func(c mesh.Connection) bool { return c.Why == tc.why })
			if f.Security != mesh.Probed || !f.Allowed {
				t.Errorf("row: %+v", f)
			}
		})
	}
}

// Another service, method, client or port, and a second call: refused, and the
// workload is not asked.
func TestNoGRPCProbe(t *testing.T) {
	at, calls := healthApp(t)
	declared := mesh.Probe{Kind: mesh.ProbeGRPC, Service: "boards"}
	check := func(service string) func(context.Context, healthpb.HealthClient) error {
		return func(ctx context.Context, c healthpb.HealthClient) error {
			_, err := c.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
			return err
		}
	}
	for name, tc := range map[string]struct {
		agent string
		call  func(context.Context, healthpb.HealthClient) error
	}{
		"another service": {"kube-probe/1.37", check("sick")},
		"a long service":  {"kube-probe/1.37", check(strings.Repeat("x", 8<<10))},
		"another client":  {"grpcurl/1.9", check("boards")},
		"List": {"kube-probe/1.37", func(ctx context.Context, c healthpb.HealthClient) error {
			_, err := c.List(ctx, &healthpb.HealthListRequest{})
			return err
		}},
		"Watch": {"kube-probe/1.37", func(ctx context.Context, c healthpb.HealthClient) error {
			w, err := c.Watch(ctx, &healthpb.HealthCheckRequest{Service: "boards"})
			if err == nil {
				_, err = w.Recv()
			}
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n, in := probedNode(t, at, mesh.ModeStrict, declared)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := tc.call(ctx, kubeletGRPC(t, in, tc.agent))
			// Package grpc may say of a message that it is too large before the
			// connection is reset.
			if code := status.Code(err); code != codes.Unavailable && code != codes.ResourceExhausted {
				t.Errorf("got %v, want a connection that broke", err)
			}
			n.row(func(c mesh.Connection) bool {
				return ended(c) && !c.Allowed && c.Security == mesh.Plaintext && strings.HasSuffix(c.Why, "the client spoke plaintext")
			})
		})
	}
	if calls.Load() != 0 {
		t.Errorf("the workload was asked %d times", calls.Load())
	}
	t.Run("twice", func(t *testing.T) {
		n, in := probedNode(t, at, mesh.ModeStrict, declared)
		c := kubeletGRPC(t, in, "kube-probe/1.37")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := check("boards")(ctx, c); err != nil {
			t.Fatal(err)
		}
		if err := check("boards")(ctx, c); status.Code(err) != codes.Unavailable {
			t.Errorf("the second: %v", err)
		}
		if calls.Load() != 1 {
			t.Errorf("the workload was asked %d times", calls.Load())
		}
		n.row(func(c mesh.Connection) bool { return ended(c) && !c.Allowed })
	})
}

func TestGRPCProbeThatHangs(t *testing.T) {
	at, calls := healthApp(t)
	n, in := probedNode(t, at, mesh.ModeStrict, mesh.Probe{Kind: mesh.ProbeGRPC, Service: "hang"})
	kubelet := kubeletGRPC(t, in, "kube-probe/1.37")
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	answer := make(chan error, 1)
	go func() {
		_, err := kubelet.Check(ctx, &healthpb.HealthCheckRequest{Service: "hang"})
		answer <- err
	}()
	until(t, "the workload is asked", func() bool { return calls.Load() == 1 })
	giveUp()
	if err := <-answer; status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want no answer", err)
	}
	n.row(func(c mesh.Connection) bool { return strings.HasPrefix(c.Why, `gRPC probe: Check of "hang": `) })
	if q := n.probes.at(at.Port()).grpc[0]; len(q.slots) != 0 {
		t.Error("the question is still asked")
	}
}

// Where plaintext is allowed the workload serves everything itself.
func TestGRPCProbeWherePlaintextIsAllowed(t *testing.T) {
	at, _ := healthApp(t)
	_, in := probedNode(t, at, mesh.ModePermissive, mesh.Probe{Kind: mesh.ProbeGRPC, Service: "boards"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := kubeletGRPC(t, in, "grpcurl/1.9").List(ctx, &healthpb.HealthListRequest{}); err != nil {
		t.Error(err)
	}
}
