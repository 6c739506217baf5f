package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"hasp/mesh"
	"hasp/proxy/relay"
)

// preface begins an HTTP/2 connection (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// healthAgentForm is how a kubelet's gRPC client names itself; grpc adds its
// own name.
var healthAgentForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(kube-probe/[0-9]{1,4}\.[0-9]{1,4}\+?) grpc-go/[0-9A-Za-z.+-]{1,32}$`)
})

// healthQuestion is a gRPC probe: grpc.health.v1.Health/Check for a service.
// https://github.com/kubernetes/kubernetes/blob/v1.37.0/pkg/probe/grpc/grpc.go
type healthQuestion struct {
	service string
	slots   slots
}

func newHealthQuestion(d mesh.Probe) *healthQuestion {
	return &healthQuestion{service: d.Service, slots: make(slots, askAtOnce)}
}

// scanPreface tells whether bytes begin an HTTP/2 connection, where a gRPC probe
// is declared. Bytes may follow: whose they are is for the server.
func scanPreface(questions []*healthQuestion, b []byte) progress {
	n := min(len(preface), len(b))
	switch {
	case len(questions) == 0 || string(b[:n]) != preface[:n]:
		return never
	case n < len(preface):
		return more
	}
	return whole
}

// health is one gRPC connection of a kubelet.
type health struct {
	p         *Proxy
	r         *row
	dst       netip.AddrPort
	questions []*healthQuestion
	asked     atomic.Bool
	refused   atomic.Bool
}

// serveHealth answers one Check for a declared service. Whatever else is asked
// is refused like any plaintext: the connection is reset. head is what was read
// already.
func (p *Proxy) serveHealth(r *row, head []byte, dst netip.AddrPort, questions []*healthQuestion) {
	h := &health{p: p, r: r, dst: dst, questions: questions}
	srv := grpc.NewServer(
		grpc.MaxConcurrentStreams(1), grpc.MaxRecvMsgSize(4<<10), grpc.MaxHeaderListSize(4<<10),
		grpc.ReadBufferSize(2<<10), grpc.WriteBufferSize(2<<10),
		grpc.ConnectionTimeout(p.cfg.HandshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: p.cfg.HandshakeTimeout, MaxConnectionAge: askTimeout, MaxConnectionAgeGrace: answerTimeout,
		}),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return h.refuse() }),
		grpc.WaitForHandlers(true),
	)
	srv.RegisterService(&checkOnly, h)
	one := &oneConn{Conn: relay.NewSocket(r.client, head), done: make(chan struct{})}
	_ = srv.Serve(one) // ends with the connection
	srv.Stop()
	if h.asked.Load() && !h.refused.Load() {
		r.finishInOrder()
	}
}

// checkOnly is grpc.health.v1.Health without List and Watch, which no kubelet
// asks.
var checkOnly = grpc.ServiceDesc{
	ServiceName: healthpb.Health_ServiceDesc.ServiceName,
	HandlerType: (*checker)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Check",
		Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(healthpb.HealthCheckRequest)
			if err := dec(in); err != nil {
				return nil, srv.(*health).refuse()
			}
			return srv.(checker).Check(ctx, in)
		},
	}},
}

type checker interface {
	Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error)
}

// Check asks the workload's own Check. Only a status goes back: no message, no
// metadata.
func (h *health) Check(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	agent := kubeletAgent(ctx)
	for _, q := range h.questions {
		if q.service == in.Service && agent != "" && !h.asked.Swap(true) {
			return h.ask(ctx, q, agent)
		}
	}
	return nil, h.refuse()
}

func (h *health) ask(ctx context.Context, q *healthQuestion, agent string) (*healthpb.HealthCheckResponse, error) {
	answer, err := h.p.askHealth(ctx, q, agent, h.dst)
	name := fmt.Sprintf("Check of %q", q.service)
	if err != nil {
		h.r.note(name + ": " + err.Error())
		return nil, status.Error(status.Code(err), "the workload did not say")
	}
	h.r.note(fmt.Sprintf("%s: the workload answered %s", name, answer))
	return &healthpb.HealthCheckResponse{Status: answer}, nil
}

// refuse resets the connection.
func (h *health) refuse() error {
	if !h.refused.Swap(true) {
		h.p.refuseProbe(h.r)
		relay.Reset(h.r.client)
	}
	return status.Error(codes.Unimplemented, "")
}

// kubeletAgent is the name and version a kubelet gave itself, or "" when it is
// none.
func kubeletAgent(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	agents := md.Get("user-agent")
	if len(agents) != 1 {
		return ""
	}
	m := healthAgentForm().FindStringSubmatch(agents[0])
	if m == nil {
		return ""
	}
	return m[1]
}

// askHealth asks the workload in plaintext, as kubelets do.
func (p *Proxy) askHealth(ctx context.Context, q *healthQuestion, agent string, dst netip.AddrPort) (healthpb.HealthCheckResponse_ServingStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	release, err := q.slots.take(ctx)
	if err != nil {
		return 0, status.FromContextError(err).Err()
	}
	defer release()
	conn, err := grpc.NewClient("passthrough:///"+dst.String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent(agent),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return p.dial(ctx, addr) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(4<<10)), grpc.WithMaxHeaderListSize(64<<10),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithNoProxy(),
	)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	res, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: q.service})
	return res.GetStatus(), err
}

// oneConn is a listener with one connection. It ends with it.
type oneConn struct {
	net.Conn
	accepted atomic.Bool
	once     sync.Once
	done     chan struct{}
}

// Accept implements net.Listener.
func (c *oneConn) Accept() (net.Conn, error) {
	if !c.accepted.Swap(true) {
		return c, nil
	}
	<-c.done
	return nil, io.EOF
}

// Addr implements net.Listener.
func (c *oneConn) Addr() net.Addr { return c.LocalAddr() }

// Close implements net.Conn, and net.Listener: the connection is what ends.
func (c *oneConn) Close() error {
	defer c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}
