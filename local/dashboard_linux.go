package local

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"hasp/control"
	"hasp/dashboard"
)

// dashboard serves the pages on the listener made on the host. It asks what the
// commands ask, where they ask it.
func (d *daemon) dashboard(ctx context.Context) error {
	ln, err := net.FileListener(d.listeners[fdDashboard])
	if err != nil {
		return fmt.Errorf("the dashboard's listener: %w", err)
	}
	d.listeners[fdDashboard].Close()
	views := &dashboard.Remote{
		Client: Admin(d.o.Dir), Base: "http://admin", Name: "the mesh in " + d.o.Dir, Namespace: d.o.Project,
		StatusOf: func(context.Context) (any, error) { return d.status() },
	}
	ctx, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		views.Run(ctx)
	}()
	defer func() { stop(); <-followed }()
	return control.ServeHTTP(ctx, ln, &http.Server{
		Handler: dashboard.Handler(views), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx }, // open pages do not hold up the end
	})
}

// status is the one answer to the command, its JSON and the page.
func (d *daemon) status() (Status, error) {
	s, err := readState(d.o.Dir)
	return Status{State: s, Control: d.control.Status()}, err
}
