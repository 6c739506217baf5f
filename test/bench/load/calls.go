package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// method answers a few bytes with the small body.
const method = "/bench.Boards/Get"

// service is written by hand: its messages are a well-known type.
var service = grpc.ServiceDesc{
	ServiceName: "bench.Boards", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Get", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		if err := decode(new(wrapperspb.BytesValue)); err != nil {
			return nil, err
		}
		return wrapperspb.Bytes(pattern[:smallBody]), nil
	}}},
}

// callsAtATime is how many calls share a connection.
const callsAtATime = 8

// calls is a client that calls as fast as answers come.
type calls struct {
	plan  Plan
	conns []*grpc.ClientConn
}

func newCalls(p Plan) (prepared, error) {
	c := &calls{plan: p}
	for range p.Connections {
		conn, err := grpc.NewClient("passthrough:///"+p.To, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("boards.shop.svc.cluster.local"))
		if err != nil {
			c.close()
			return nil, err
		}
		c.conns = append(c.conns, conn)
		if err := call(context.Background(), conn); err != nil {
			c.close()
			return nil, fmt.Errorf("load: call %s: %w", p.To, err)
		}
	}
	return c, nil
}

var request = wrapperspb.Bytes([]byte("boards"))

func call(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out wrapperspb.BytesValue
	if err := conn.Invoke(ctx, method, request, &out); err != nil {
		return err
	}
	if len(out.GetValue()) != smallBody {
		return fmt.Errorf("a reply has %d bytes, not %d", len(out.GetValue()), smallBody)
	}
	return checkBody(0, out.GetValue())
}

func (c *calls) run() (Result, error) {
	start := time.Now()
	end := start.Add(c.plan.For)
	var given atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	var failed []error
	var all sync.WaitGroup
	for _, conn := range c.conns {
		for range callsAtATime {
			all.Go(func() {
				var mine []time.Duration
				var err error
				for err == nil {
					at := time.Now()
					if !at.Before(end) || c.plan.Count > 0 && given.Add(1) > int64(c.plan.Count) {
						break
					}
					err = call(context.Background(), conn)
					mine = append(mine, time.Since(at))
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, mine...)
				if err != nil {
					failed = append(failed, err)
				}
			})
		}
	}
	all.Wait()
	if len(failed) > 0 {
		return Result{}, fmt.Errorf("load: after %d calls: %w", len(took), errors.Join(failed[0]))
	}
	r := Result{Done: len(took), Bytes: int64(len(took)) * smallBody, Seconds: time.Since(start).Seconds()}
	r.times(took)
	return r, nil
}

func (c *calls) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
}
