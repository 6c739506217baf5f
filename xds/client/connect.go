package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Waits between connections, doubling, and how long a connection must have
// lasted for the next wait to start over.
const (
	minWait = 100 * time.Millisecond
	maxWait = 10 * time.Second
	lasting = 30 * time.Second
)

// dialFunc opens a TCP connection.
type dialFunc = func(ctx context.Context, address string) (net.Conn, error)

func plainDial(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// connect prepares a connection to the control plane; it is made when it is
// first used.
func connect(target string, cfg *tls.Config, dial dialFunc, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+target, append(more,
		grpc.WithTransportCredentials(credentials.NewTLS(cfg)),
		grpc.WithContextDialer(dial),
		grpc.WithNoProxy(),
		grpc.WithReadBufferSize(0), // TLS has one already
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}))...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", target, err)
	}
	return conn, nil
}

// again runs one connection after the other until ctx ends, with growing waits
// between them. Changed, if not nil, gives a channel that is closed when the
// next try is worth making at once. Failed is told why a connection ended and
// how long the wait is; it may choose another.
func again(ctx context.Context, most time.Duration, changed func() <-chan struct{}, connection func(context.Context) error,
	failed func(err error, wait time.Duration) time.Duration) {
	if changed == nil {
		changed = func() <-chan struct{} { return nil }
	}
	failures := 0
	for {
		// Asked before each connection, so that no change is missed.
		start, news := time.Now(), changed()
		err := connection(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(start) > lasting {
			failures, news = 0, changed() // what changed meanwhile is no reason to hurry
		}
		wait := failed(err, backoff(failures, most))
		failures++
		if !pause(ctx, wait, news) {
			return
		}
	}
}

// pause waits until the time is over or something changed. It returns false
// when ctx ended first.
func pause(ctx context.Context, wait time.Duration, changed <-chan struct{}) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-timer.C:
	}
	return true
}

// backoff doubles from minWait to most, less up to a third at random: a
// thousand proxies must not come back in the same instant.
func backoff(failures int, most time.Duration) time.Duration {
	d := most
	if failures < 10 {
		d = min(minWait<<failures, most)
	}
	return d - time.Duration(rand.Int64N(int64(d)/3+1))
}
