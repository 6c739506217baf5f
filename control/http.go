package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// stopTime is how long an HTTP server that ends lets requests end by themselves.
const stopTime = time.Second

// ServeHTTP serves until ctx ends, for whoever runs a control plane: its pages
// and webhooks. The listener is closed when it returns.
func ServeHTTP(ctx context.Context, ln net.Listener, srv *http.Server) error {
	done := make(chan struct{})
	ctx, ended := context.WithCancel(ctx)
	go func() {
		defer close(done)
		<-ctx.Done()
		quick, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		if srv.Shutdown(quick) != nil {
			srv.Close()
		}
	}()
	err := srv.Serve(ln)
	ended() // it may have failed by itself
	<-done
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
}
